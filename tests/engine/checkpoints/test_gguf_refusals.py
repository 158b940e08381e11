import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from app.engine.checkpoints.checkpoint import resolve_checkpoint
from app.engine.checkpoints.gguf_conversion import Conversion, convert
from app.engine.checkpoints.gguf_header import read_header
from app.engine.checkpoints.gguf_tokenizer import begins, pre_tokenizer
from app.engine.checkpoints.unusable import CheckpointUnusable
from app.settings import Settings
from tests.engine.checkpoints.demo_gguf import silent, write_demo_gguf


def test_a_file_that_was_cut_short_is_told(tmp_path: Path) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf")
    for size in (path.stat().st_size - 1000, 20_000, 30):
        os.truncate(path, size)
        with pytest.raises(CheckpointUnusable, match=r"demo\.gguf is damaged or cut short"):
            convert(silent, Conversion(source=path, cache=tmp_path))


def test_an_architecture_that_cannot_be_read_names_the_way_out(tmp_path: Path) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf", architecture="rwkv7")

    with pytest.raises(CheckpointUnusable, match="'rwkv7', which cannot be read from GGUF: serve"):
        convert(silent, Conversion(source=path, cache=tmp_path))


def llama3_factors(factor: float, width: int, base: float) -> NDArray[np.float32]:
    """What llama.cpp's converter writes for Llama 3.1: long waves are stretched, short ones not."""
    waves = 2 * np.pi * base ** (np.arange(0, width, 2) / width)
    smooth = (8192 / waves - 1.0) / (4.0 - 1.0)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(waves < 8192 / 4.0, 1.0, np.where(waves > 8192, factor, between))
    return factors.astype(np.float32)


def test_llama_3_scales_positions_as_its_file_says(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": llama3_factors(32.0, width=32, base=10000.0)}
    path = write_demo_gguf(tmp_path / "demo.gguf", extra=extra)

    folder = convert(silent, Conversion(source=path, cache=tmp_path, weights=False))

    assert json.loads((folder / "config.json").read_text())["rope_parameters"] == {
        "rope_theta": 10000.0,
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


@pytest.mark.parametrize(
    ("name", "tensor", "sentence"),
    [
        ("rope_freqs.weight", np.linspace(1, 9, 16, dtype=np.float32), "scales positions in a way"),
        ("blk.0.attn_q.bias", np.ones(192, dtype=np.float32), "holds blk.0.attn_q.bias, unlike"),
    ],
)
def test_a_tensor_that_would_be_left_out_is_refused(
    tmp_path: Path, name: str, tensor: NDArray[np.float32], sentence: str
) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf", extra={name: tensor})

    with pytest.raises(CheckpointUnusable, match=sentence):
        convert(silent, Conversion(source=path, cache=tmp_path))


def write_keys(path: Path, architecture: str, **keys: str | int | bool) -> Path:
    """A file without tensors; `__` in a key stands for a full stop."""
    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        name = key.replace("__", ".")
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_an_unknown_way_to_split_words_is_refused(tmp_path: Path) -> None:
    path = write_keys(
        tmp_path / "x.gguf",
        "llama",
        tokenizer__ggml__model="gpt2",
        tokenizer__ggml__pre="deepseek-llm",
    )

    with pytest.raises(CheckpointUnusable, match=r"splits words in a way \(deepseek-llm\)"):
        pre_tokenizer(read_header(path))


def test_digits_stand_apart_where_the_file_says_so(tmp_path: Path) -> None:
    keys = {"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__pre": "smollm"}
    split = pre_tokenizer(read_header(write_keys(tmp_path / "x.gguf", "llama", **keys)))

    assert split is not None
    assert [piece for piece, _ in split.pre_tokenize_str("in 123")] == ["in", "Ġ", "1", "2", "3"]


def test_a_text_begins_with_its_token_where_that_is_usual_or_stated(tmp_path: Path) -> None:
    def begins_with(**keys: str | bool) -> bool:
        return begins(read_header(write_keys(tmp_path / "x.gguf", "llama", **keys)))

    assert begins_with(tokenizer__ggml__model="llama")
    assert begins_with(tokenizer__ggml__model="gpt2", tokenizer__ggml__pre="llama-bpe")
    assert not begins_with(tokenizer__ggml__model="gpt2", tokenizer__ggml__pre="qwen2")
    assert not begins_with(tokenizer__ggml__model="llama", tokenizer__ggml__add_bos_token=False)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"general__type": "adapter"}, "is no model but adapter"),
        ({"general__type": "mmproj"}, "is a vision projector: name the model"),
        ({"split__count": 3}, "is a part of a GGUF file: join the parts"),
    ],
)
def test_what_is_no_whole_model_is_refused(
    tmp_path: Path, keys: dict[str, str | int], sentence: str
) -> None:
    path = write_keys(tmp_path / "x.gguf", "llama", **keys)

    with pytest.raises(CheckpointUnusable, match=sentence):
        resolve_checkpoint(Settings(model=str(path)), io.StringIO())


def test_a_projector_names_the_checkpoint_to_serve(tmp_path: Path) -> None:
    model = write_demo_gguf(tmp_path / "demo.gguf")
    projector = write_keys(
        tmp_path / "mmproj.gguf", "clip", general__type="mmproj", clip__projector_type="gemma3"
    )

    with pytest.raises(CheckpointUnusable, match="MODEL_PATH=google/gemma-3-4b-it MODEL_TYPE=VL"):
        resolve_checkpoint(Settings(model=str(model), mmproj_path=str(projector)), io.StringIO())
    with pytest.raises(CheckpointUnusable, match="is no vision projector but a model of kind"):
        resolve_checkpoint(Settings(model=str(model), mmproj_path=str(model)), io.StringIO())
    with pytest.raises(CheckpointUnusable, match="holds its vision tower itself"):
        resolve_checkpoint(Settings(mmproj_path=str(projector)), io.StringIO())
