"""What becomes of the settings when several frontends share them: divided, or refused."""

import math
from pathlib import Path

import msgspec

from app.configuration import ConfigurationError
from app.settings import Settings

DIVIDED = (
    "max_in_flight",
    "max_queued_requests",
    "max_queued_tokens",
    "compile_processes",
    "reply_cache_mib",
)
"""Bounds of the whole server. Each frontend gets its part, rounded up."""


def check_shareable(settings: Settings) -> None:
    """Refuse what several processes cannot do as one does it. Raises ConfigurationError."""
    wanted = [text for is_missing, text in requirements(settings) if is_missing]
    if wanted and settings.frontends > 1:
        raise ConfigurationError(
            f"LLM_FRONTENDS={settings.frontends} needs {', and '.join(wanted)}."
        )


def requirements(settings: Settings) -> list[tuple[bool, str]]:
    """Whether each is missing, and what to set."""
    has_redis = "://" in settings.reply_cache
    return [
        (
            settings.idempotency_seconds > 0 and not has_redis,
            "LLM_IDEMPOTENCY_SECONDS=0 or a Redis as LLM_REPLY_CACHE (a request that is sent again "
            "may come to another process)",
        ),
        (
            settings.max_engine_failures > 0,
            "LLM_MAX_ENGINE_FAILURES=0 (an engine that dies ends the server, with status 70)",
        ),
        (
            settings.max_pinned_loras > 0,
            "LLM_MAX_PINNED_LORAS=0 (nobody counts the pins of all processes)",
        ),
        (
            settings.data_parallel_size > 1,
            "LLM_DATA_PARALLEL_SIZE=1 (several frontends are for one engine)",
        ),
    ]


def shares(settings: Settings) -> list[Settings]:
    """Each frontend's settings: its part of what is divided, and a folder of logs of its own."""
    parts = {name: math.ceil(getattr(settings, name) / settings.frontends) for name in DIVIDED}
    return [
        msgspec.structs.replace(settings, **parts, log_dir=own_logs(settings.log_dir, index))
        for index in range(settings.frontends)
    ]


def own_logs(folder: str, index: int) -> str:
    """Two processes cannot rotate one file."""
    return str(Path(folder) / f"frontend-{index}") if folder else ""
