"""Requests that wait for the engine: how many at most, and which of them goes next."""
