"""`python -m app`: settings to a running server."""

import os
import signal
import sys

from app.configuration import ConfigurationError, load_settings
from app.console import Console, silenced
from app.engine.environment import prepare_environment
from app.settings import Settings


def main() -> int:
    """Run the server; returns the exit status: 0 drained, 2 wrong settings, 70 engine failed."""
    # Until uvicorn takes over: as PID 1 of a container a process without a handler ignores it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings(sys.argv[1:], os.environ, known_engine_arguments)
    except ConfigurationError as error:
        print(f"slipstream: {error.message}", file=sys.stderr)
        return 2
    prepare_environment(settings)
    return run(settings)


def known_engine_arguments() -> frozenset[str]:
    with silenced():
        from app.engine.arguments import known_arguments

        return known_arguments()


def run(settings: Settings) -> int:
    """Import the engine with its output out of the way, then serve."""
    with Console(settings) as console:
        console.announce()
        import uvloop

        from app.asgi import create_app
        from app.engine.vllm import VLLMEngine
        from app.server import serve

        app = create_app(settings, VLLMEngine(settings))
        return uvloop.run(serve(app, settings))


if __name__ == "__main__":
    sys.exit(main())
