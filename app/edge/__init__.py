"""Where bytes come in: what HTTP a client may speak, how much of it, and how slowly."""
