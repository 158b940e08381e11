"""The settings' model in, the engine arguments that name its files out; downloads and converts.

Blocks for as long as that takes: call it in a thread. Knows vLLM's names of arguments, and of its
platforms only whether GGUF can be read as it is.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TextIO

from vllm.platforms import current_platform

from app.engine.checkpoints.child import run_in_child
from app.engine.checkpoints.folder import checked
from app.engine.checkpoints.gguf_conversion import Conversion, convert
from app.engine.checkpoints.gguf_header import GGUFHeader, is_gguf, read_header
from app.engine.checkpoints.hub import Repository, fetch
from app.engine.checkpoints.projector import refuse_projector
from app.engine.checkpoints.unusable import CheckpointUnusable
from app.folders import cache_folder
from app.settings import Settings

NAME: Final = r"[\w.-]+/[\w.-]+"
REMOTE_MODEL: Final = re.compile(rf"(?P<name>{NAME}|[\w.-]+)")
REMOTE_GGUF: Final = re.compile(rf"(?P<name>{NAME})(?:/(?P<file>.+\.gguf)|:(?P<kind>[\w.+-]+))")
"""`owner/name/file.gguf`, or `owner/name:Q4_K_M` for the file with that in its name."""

GGUF_PLUGIN: Final = "vllm_gguf_plugin"


def resolve_checkpoint(settings: Settings, stream: TextIO) -> dict[str, Any]:
    """Engine arguments whose files are all on this machine; progress is drawn on `stream`.

    Raises CheckpointUnusable with one sentence.
    """
    model = settings.model_path
    if "://" in model or "load_format" in settings.engine_arguments:
        return {"model": model}  # Somebody else's loader: it knows what it wants.
    path = Path(model).expanduser()
    if is_gguf(path) or path.suffix == ".gguf" or REMOTE_GGUF.fullmatch(model):
        return gguf_arguments(local_gguf(settings, path, stream), settings, stream)
    if settings.mmproj_path:
        raise CheckpointUnusable(
            f"MMPROJ_PATH belongs to a GGUF model; {model} is a checkpoint, which holds its vision "
            "tower itself: leave MMPROJ_PATH out."
        )
    return {"model": str(local_folder(settings, path, stream))}


def local_folder(settings: Settings, path: Path, stream: TextIO) -> Path:
    if path.is_dir():
        return checked(path)
    found = REMOTE_MODEL.fullmatch(settings.model_path)
    if path.exists() or not found:
        what = "is no folder and no GGUF file" if path.exists() else "does not exist"
        raise CheckpointUnusable(f"{settings.model_path} {what}.")
    return checked(download(settings, found["name"], "", stream))


def local_gguf(settings: Settings, path: Path, stream: TextIO) -> Path:
    found = REMOTE_GGUF.fullmatch(settings.model_path)
    if path.exists() or not found:
        return path
    return download(settings, found["name"], found["file"] or found["kind"], stream)


def download(settings: Settings, name: str, gguf: str, stream: TextIO) -> Path:
    """From the hub that the settings name; vLLM's own `revision` and `trust_remote_code` count."""
    repository = Repository(
        name=name,
        revision=settings.engine_arguments.get("revision"),
        gguf=gguf,
        code=bool(settings.engine_arguments.get("trust_remote_code")),
    )
    return run_in_child(name, stream, fetch, settings.hub, repository)


def gguf_arguments(path: Path, settings: Settings, stream: TextIO) -> dict[str, Any]:
    """The file itself where vLLM can read it, else the folder that it is converted to, once."""
    check_model(read_header(path))
    if settings.mmproj_path:
        refuse_projector(Path(settings.mmproj_path).expanduser(), path)
    direct = current_platform.is_cuda() and find_spec(GGUF_PLUGIN) is not None
    conversion = Conversion(
        source=path, cache=cache_folder("") / "gguf", dtype=settings.dtype, weights=not direct
    )
    folder = conversion.folder
    if not folder.is_dir():
        folder = run_in_child(path.name, stream, convert, conversion)
    if direct:
        # The plugin wants the config beside a tokenizer, and can read neither from the file.
        return {"model": str(path), "tokenizer": str(folder), "hf_config_path": str(folder)}
    return {"model": str(folder)}


def check_model(header: GGUFHeader) -> None:
    """Refuse what is GGUF but no model. Raises CheckpointUnusable."""
    name = header.path.name
    if header.is_projector:
        raise CheckpointUnusable(f"{name} is a vision projector: name the model in MODEL_PATH.")
    if header.metadata.get("general.type", "model") != "model":
        raise CheckpointUnusable(f"{name} is no model but {header.metadata['general.type']}.")
    if header.metadata.get("split.count", 1) > 1:
        raise CheckpointUnusable(
            f"{name} is a part of a GGUF file: join the parts with llama-gguf-split --merge."
        )
