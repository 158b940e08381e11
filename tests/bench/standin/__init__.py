"""Frontends measured on an engine that costs nothing; see `__main__`."""
