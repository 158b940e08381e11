"""What makes two generations the same: everything the engine reads, and whom it is for."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.engine.base import Adapter, RenderedPrompt, Sampling
from app.settings import Settings

FORMAT = 1
"""Of keys and of what is kept under them; a new one makes everything older unknown."""

encode = msgspec.msgpack.Encoder().encode
"""What is the same in another order, such as `logit_bias`, only misses."""


def is_repeatable(arguments: Mapping[str, Any]) -> bool:
    """Whether the engine is asked to say the same again: the likeliest token, or a seed.

    One candidate is greedy too: that is how several choices are, see `sampling.GREEDY_CHOICES`. To
    a seed OpenAI promises that "repeated requests with the same `seed` and parameters should
    return the same result". A temperature that is the model's own default is not known here.
    """
    return arguments.get("temperature") == 0 or arguments.get("top_k") == 1 or "seed" in arguments


def fingerprint(
    served: str, prompt: RenderedPrompt, sampling: Sampling, adapter: Adapter | None, owner: str
) -> str | None:
    """64 hexadecimal digits, the same for deltas and whole replies; None for unhashed pictures.

    Owners never share: that a reply is there tells what somebody else has asked.
    """
    if prompt.pictures is not None and not prompt.picture_hashes:
        return None
    parts = (
        FORMAT,
        served,
        owner,
        adapter.name if adapter else "",
        prompt.token_ids,
        prompt.picture_hashes,
        sampling.arguments,
        sampling.constraint,
    )
    return hashlib.sha256(encode(parts)).hexdigest()


def served_model(settings: Settings) -> str:
    """What tells the served model from others, and from its own weights of yesterday.

    A model of a hub may change under its name; there only the time to live bounds what is stale.
    """
    parts = (
        settings.served_name,
        settings.model_path,
        settings.hub,
        settings.dtype,
        settings.quantization,
        {name: repr(value) for name, value in settings.engine_arguments.items()},
        files_of(Path(settings.model_path)),
    )
    return hashlib.sha256(encode(parts)).hexdigest()


def files_of(path: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change of a model's files; empty for one that is no path."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    stats = [(each.name, each.stat()) for each in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
