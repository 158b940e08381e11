"""Engine output to reply structs and event bytes. Pure: no I/O, no web framework."""
