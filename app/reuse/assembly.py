"""What the settings say of reuse, put together."""

from app.engine.base import Submitter
from app.metrics import Metrics
from app.reuse.fingerprint import served_model
from app.reuse.idempotency import Answers
from app.reuse.kept import KeptReplies
from app.reuse.replies import ReplyCache
from app.reuse.stores import Stores
from app.settings import Settings


def with_reuse(
    behind: Submitter, settings: Settings, stores: Stores, metrics: Metrics
) -> Submitter:
    """A cache in front of it; itself if nothing is to be shared or kept."""
    if not settings.single_flight and not settings.reply_cache:
        return behind
    return ReplyCache(
        behind,
        served_model(settings),
        metrics,
        is_shared=settings.single_flight,
        kept=kept_replies(settings, stores),
    )


def kept_replies(settings: Settings, stores: Stores) -> KeptReplies | None:
    if not settings.reply_cache:
        return None
    store = stores.open("replies", settings.reply_cache_mib)
    return KeptReplies(store, settings.reply_cache_seconds, settings.reply_cache_entry_kib * 1024)


def answers(settings: Settings, stores: Stores) -> Answers | None:
    if not settings.idempotency_seconds:
        return None
    store = stores.open("answers", settings.idempotency_mib)
    return Answers(store, settings.idempotency_seconds, settings.idempotency_entry_kib * 1024)
