"""`python -m app.cluster`: the settings of `python -m app` to several replicas at one address."""

import os
import signal
import sys
from importlib.util import find_spec
from typing import Any

from app.cluster.environment import prepare_environment
from app.configuration import ConfigurationError, load_settings
from app.console import Console
from app.engine.argument_names import known_arguments
from app.settings import Settings

EXTRA = "cluster"


def main() -> int:
    """Run until told to stop; the exit status is that of `python -m app`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        require_ray()
        prepare_environment()
        return run(load_settings(sys.argv[1:], os.environ, known_arguments))
    except ConfigurationError as error:
        sys.stderr.write(f"slipstream: {error.message}\n")
        return 2


def require_ray() -> None:
    """Raises ConfigurationError."""
    if find_spec("ray") is None:
        raise ConfigurationError(
            f"Replicas need Ray, which is not installed: install the extra {EXTRA!r}."
        )


def run(settings: Settings) -> int:
    """Start Ray with its output out of the way, then serve."""
    with Console(settings) as console:
        console.announce()
        import uvloop

        from app.cluster.launch import running_cluster

        with running_cluster(settings) as handle:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # Ray has set its own
            return uvloop.run(serve_fleet(settings, handle))


async def serve_fleet(settings: Settings, handle: Any) -> int:
    """Serve from the replicas behind a handle; returns the exit status."""
    from app.cluster.front import Front
    from app.cluster.ray_fleet import RayFleet
    from app.server import serve

    fleet = RayFleet(handle)
    try:
        return await serve(Front(settings, fleet), settings)
    finally:
        await fleet.close()


if __name__ == "__main__":
    sys.exit(main())
