"""Our server's settings in this bench: the released ones, with a name and a key."""

from app.settings import Settings
from tests.bench.peers.workloads import KEY, MODEL_NAME


def bench_settings() -> Settings:
    """The embedded model, so that everybody can run it."""
    return Settings(model="demo", model_name=MODEL_NAME, api_keys=(KEY,))
