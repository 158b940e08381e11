"""Ports for servers that must be told theirs before they bind it."""

import socket


def free_port() -> int:
    """Of 127.0.0.1, free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
