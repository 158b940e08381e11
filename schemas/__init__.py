"""What goes over the wire: msgspec structs only. Knows neither the server nor the engine."""
