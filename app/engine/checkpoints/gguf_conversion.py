"""A GGUF file in, a folder that vLLM loads out: config, tokenizer, and weights as safetensors.

Runs in a child process (`child.py`). A folder appears whole or not at all, and is made once: its
name says what it was made from. Knows nothing of vLLM.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from filelock import FileLock
from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor
from transformers import AutoModelForCausalLM, PretrainedConfig, modeling_gguf_pytorch_utils
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.quantization_config import GgufConfig

from app.engine.checkpoints.gguf_config import (
    ROPE_FACTORS,
    complete_rope,
    generation_config,
    read_config,
)
from app.engine.checkpoints.gguf_header import UNREADABLE, GGUFHeader, read_header
from app.engine.checkpoints.gguf_tokenizer import read_tokenizer
from app.engine.checkpoints.unusable import CheckpointUnusable, first_line

Reporting = Callable[[int, int], None]
"""Told bytes done and bytes in all."""

REVISION: Final = 1
"""Count it up when a conversion comes out differently: folders made before are left aside."""

SAMPLES: Final = 64
SAMPLE_BYTES: Final = 2**16
SHARD_SIZE: Final = "5GB"
FLOATS: Final = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What is made of what."""

    source: Path
    cache: Path
    dtype: str = "auto"
    """A name of torch's, or auto: the file's own, and bfloat16 for quantized weights.

    bfloat16 rounds them more than float16 would, but has the range of the numbers that most
    models were trained with: in float16 some overflow.
    """
    weights: bool = True
    """False: config and tokenizer alone, for an engine that reads GGUF weights itself."""

    @property
    def folder(self) -> Path:
        return self.cache / f"{self.source.stem}-{self.key()}"

    def key(self) -> str:
        """Differs when the file or what is made of it does.

        Reading all of a 40 GB file takes minutes, so 64 samples spread over it, 4 MiB in all, stand
        for it: other weights differ everywhere. Size and time of change tell of a repaired
        download, the samples of files whose times were set alike, as packagers do.
        """
        status = self.source.stat()
        made = (REVISION, self.dtype, self.weights, status.st_size, status.st_mtime_ns)
        digest = hashlib.sha256(repr(made).encode())
        with self.source.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(number * max(status.st_size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()[:16]


def convert(report: Reporting, conversion: Conversion) -> Path:
    """The folder, made now unless it was made before. Raises CheckpointUnusable."""
    folder = conversion.folder
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                write(report, conversion, partial)
                os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointUnusable(
            f"{conversion.source.name} could not be converted in {folder.parent}: "
            f"{error.strerror or first_line(error)}. XDG_CACHE_HOME names another place."
        ) from error
    return folder


def write(report: Reporting, conversion: Conversion, folder: Path) -> None:
    header = read_header(conversion.source)
    tokenizer = read_tokenizer(header)
    reader = read_tensors(conversion.source)
    dtype = weights_dtype(reader, conversion.dtype)
    config = read_config(header)
    complete_rope(config, header, reader)
    folder.mkdir()
    if conversion.weights:
        check_space(reader, dtype, folder)
        model = load_model(report, header, config, dtype)
        model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    else:
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
        config.dtype = dtype
        config.save_pretrained(folder)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    generation_config(header, tokens).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_tensors(source: Path) -> GGUFReader:
    """Map the tensors; a file that was cut short does not get past this."""
    try:
        return GGUFReader(source)
    except UNREADABLE as error:
        raise CheckpointUnusable(
            f"{source} is damaged or cut short ({first_line(error)}): get it again."
        ) from error


def weights_dtype(reader: GGUFReader, wanted: str) -> torch.dtype:
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    kinds = {tensor.tensor_type for tensor in reader.tensors}
    if not kinds <= FLOATS.keys():
        return torch.bfloat16
    for kind in (GGMLQuantizationType.BF16, GGMLQuantizationType.F16):
        if kind in kinds:
            return FLOATS[kind]
    return torch.float32


def check_space(reader: GGUFReader, dtype: torch.dtype, folder: Path) -> None:
    needed = sum(int(tensor.n_elements) for tensor in reader.tensors) * dtype.itemsize
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointUnusable(
            f"The converted model needs {needed / 1e9:.1f} GB in {folder.parent}, which has "
            f"{free / 1e9:.1f} GB left. XDG_CACHE_HOME names another place."
        )


def load_model(
    report: Reporting, header: GGUFHeader, config: PretrainedConfig, dtype: torch.dtype
) -> Any:
    """The model in memory, de-quantized. Raises CheckpointUnusable if a tensor is left over."""
    # The only place where transformers tells how far it is: its own bar on a terminal.
    modeling_gguf_pytorch_utils.tqdm = Reported(report)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            header.path.parent,
            gguf_file=header.path.name,
            config=config,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise CheckpointUnusable(f"{header.path.name}: {first_line(error)}.") from error
    surplus = set(found["unexpected_keys"]) | unread(header, model)
    if surplus or found["missing_keys"]:
        raise mismatch(header, sorted(surplus), sorted(found["missing_keys"]))
    return model


def unread(header: GGUFHeader, model: Any) -> set[str]:
    """Tensors that transformers skips without a word: a model without them answers otherwise."""
    if header.architecture in GGUF_CONFIG_ARCHS:
        return set()
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    read = set(get_gguf_hf_weights_map(model, processor(config=model.config.to_dict())))
    return set(header.tensor_names) - read - {ROPE_FACTORS}


def mismatch(header: GGUFHeader, surplus: list[str], missing: list[str]) -> CheckpointUnusable:
    what = f"holds {surplus[0]}" if surplus else f"lacks {missing[0]}"
    return CheckpointUnusable(
        f"{header.path.name} {what}, unlike other models of kind '{header.architecture}': serve "
        "the original checkpoint of that model, a folder or an id."
    )


class Reported:
    """In the place of transformers' progress bar: counts the bytes of the tensors it passes on."""

    def __init__(self, report: Reporting) -> None:
        self._report = report

    def __call__(self, tensors: Iterable[ReaderTensor], desc: str = "") -> Iterator[ReaderTensor]:
        tensors = list(tensors)
        total = sum(int(tensor.n_bytes) for tensor in tensors)
        done = 0
        for tensor in tensors:
            yield tensor
            done += int(tensor.n_bytes)
            self._report(done, total)
