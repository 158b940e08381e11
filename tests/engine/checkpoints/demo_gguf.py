"""GGUF files of the demo model, written as llama.cpp's converter writes a Llama's.

`python -m tests.engine.checkpoints.demo_gguf FILE [QUANTIZATION]` writes one to serve.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import quantize
from numpy.typing import NDArray
from safetensors.torch import load_file

from app.demo import DEMO_MODEL_NAME, DEMO_MODEL_PATH

Floats = NDArray[np.float32]


def write_demo_gguf(
    path: Path,
    quantization: str = "Q8_0",
    *,
    architecture: str = "llama",
    extra: dict[str, Floats] | None = None,
) -> Path:
    """The demo model in one file: matrices quantized, norms in 32 bits; `extra` holds more tensors.

    Quantizations are those whose encoder the gguf package has: F32, F16, BF16, Q8_0, Q5_0, Q5_1,
    Q4_0, Q4_1.
    """
    writer = GGUFWriter(path, architecture)
    config = json.loads((DEMO_MODEL_PATH / "config.json").read_text())
    add_shape(writer, config)
    add_vocabulary(writer)
    add_weights(writer, config, GGMLQuantizationType[quantization])
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_shape(writer: GGUFWriter, config: dict[str, int]) -> None:
    writer.add_type("model")
    writer.add_name(DEMO_MODEL_NAME)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_vocabulary(writer: GGUFWriter) -> None:
    """The tokenizer, as the one in llama.cpp's list that splits these words the same way."""
    tokenizer = json.loads((DEMO_MODEL_PATH / "tokenizer.json").read_text())
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types(
        [TokenType.CONTROL if token in special else TokenType.NORMAL for token, _ in vocabulary]
    )
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template((DEMO_MODEL_PATH / "chat_template.jinja").read_text())


def add_weights(
    writer: GGUFWriter, config: dict[str, int], quantization: GGMLQuantizationType
) -> None:
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(DEMO_MODEL_PATH / "model.safetensors").items():
        weights = permuted(name, tensor.float().numpy(), config)
        kind = quantization if weights.ndim > 1 else GGMLQuantizationType.F32
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(gguf_name, quantize(weights, kind), raw_dtype=kind)


def permuted(name: str, weights: Floats, config: dict[str, int]) -> Floats:
    """Queries and keys with the halves of each head interleaved, as llama.cpp rotates them."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    for part, count in heads.items():
        if part in name:
            halves = weights.reshape(config[count], 2, -1, weights.shape[1])
            return halves.swapaxes(1, 2).reshape(weights.shape)
    return weights


def silent(done: int, total: int) -> None:
    """The report of a conversion whose progress nobody wants to see."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("quantization", nargs="?", default="Q8_0")
    arguments = parser.parse_args()
    write_demo_gguf(arguments.file, arguments.quantization)


if __name__ == "__main__":
    main()
