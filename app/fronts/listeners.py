"""One address, bound once for each frontend: the kernel deals out the connections."""

import socket

from app.configuration import ConfigurationError


def bind_all(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets that are bound, and do not listen yet. Port 0 is one and the same for all.

    Raises ConfigurationError if somebody else has the address: with SO_REUSEPORT alone a second
    server of the same user would take some of its connections, unnoticed.
    """
    try:
        with bound(host, port, socket.SO_REUSEADDR) as claim:
            port = claim.getsockname()[1]
        return [bound(host, port, socket.SO_REUSEPORT) for _ in range(count)]
    except OSError as error:
        raise ConfigurationError(f"{host}:{port} cannot be listened on: {error}.") from error


def bound(host: str, port: int, option: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
