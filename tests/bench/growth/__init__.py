"""How cost grows with load and with size; see `__main__`."""
