"""Our server on the talking engine: `python -m tests.scorecard.server [--SETTING VALUE]...`.

Says on its standard output where it listens, and serves until SIGTERM.
"""

import gc
import os
import sys
from pathlib import Path

import uvloop

from app.asgi import create_app
from app.configuration import load_settings
from app.engine.leash import tie
from app.log import configure_logging
from app.server import DrainingServer
from app.settings import Settings
from tests.scorecard.engine import TalkingEngine


class AnnouncingServer(DrainingServer):
    """Tells whoever started it its address."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        sys.stdout.write("http://{}:{}\n".format(*self.address))
        sys.stdout.flush()


def run(settings: Settings) -> None:
    configure_logging(settings.log_level, Path(settings.log_dir) if settings.log_dir else None)
    app = create_app(settings, TalkingEngine(**settings.engine_arguments))
    gc.freeze()  # as a real engine does: a full collection would be blamed on some request
    uvloop.run(AnnouncingServer(app, settings).serve())


if __name__ == "__main__":
    tie(os.getppid())
    run(load_settings(sys.argv[1:], {}, lambda: frozenset({"max_num_seqs"})))
