"""`python -m app`: settings to a running server."""

import os
import signal
import sys

from app.configuration import ConfigurationError, load_settings
from app.console import Console
from app.engine.argument_names import known_arguments
from app.engine.environment import prepare_environment
from app.settings import Settings


def main() -> int:
    """Run the server; returns the exit status: 0 drained, 2 wrong settings, 70 engine failed."""
    # Until uvicorn takes over: as PID 1 of a container a process without a handler ignores it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings(sys.argv[1:], os.environ, known_arguments)
        prepare_environment(settings)
        return run(settings)
    except ConfigurationError as error:
        print(f"slipstream: {error.message}", file=sys.stderr)
        return 2


def run(settings: Settings) -> int:
    """Import the engine with its output out of the way, then serve."""
    with Console(settings) as console:
        console.announce()
        import uvloop

        from app.asgi import create_app
        from app.engine.vllm import engines
        from app.metrics import Metrics
        from app.server import serve
        from app.supervision import SupervisedEngine
        from app.tools.dialects import MARKS

        metrics = Metrics()
        make = engines(settings, MARKS, console.terminal)
        app = create_app(settings, SupervisedEngine(make, settings, metrics), metrics)
        return uvloop.run(serve(app, settings))


if __name__ == "__main__":
    sys.exit(main())
