"""A GGUF file's vocabulary in, a fast tokenizer with its chat template out.

transformers builds it; what it takes for granted, such as how unknown vocabularies split words, is
looked up or refused here. Knows nothing of weights.
"""

from typing import Final

from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from app.engine.checkpoints.gguf_header import GGUFHeader
from app.engine.checkpoints.unusable import CheckpointUnusable

LIKE_GPT2: Final = frozenset(
    {
        *("gpt-2", "mpt", "olmo", "jais", "trillion", "phi-2", "exaone4", "gigachat", "a.x-4.0"),
        *("mellum", "granite-docling"),
    }
)
DIGITS_APART: Final = frozenset(
    {
        *("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
        "mellum2",
    }
)
LIKE_OTHERS: Final = {
    "stablelm2": "qwen2",
    "hunyuan": "qwen2",
    "solar-open": "qwen2",
    "grok-2": "qwen2",
    "glm4": "llama-bpe",
    "chatglm-bpe": "llama-bpe",
}
"""How `tokenizer.ggml.pre` splits words, where transformers does not say: llama.cpp's own table."""

BEGINS_BY_DEFAULT: Final = frozenset(
    {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "tekken"}
)


def read_tokenizer(header: GGUFHeader) -> PreTrainedTokenizerFast:
    """Raises CheckpointUnusable if the vocabulary's way to split words is not known."""
    split = pre_tokenizer(header)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        header.path.parent,
        gguf_file=header.path.name,
        model_max_length=header.of_model("context_length"),
        clean_up_tokenization_spaces=False,
    )
    if split is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = split
    add_begin(tokenizer.backend_tokenizer, tokenizer.bos_token, begins(header))
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def pre_tokenizer(header: GGUFHeader) -> pre_tokenizers.PreTokenizer | None:
    """What splits words before merges are applied; None if transformers' choice is right."""
    if header.metadata.get("tokenizer.ggml.model") != "gpt2":
        return None
    name = str(header.metadata.get("tokenizer.ggml.pre", "missing"))
    if name in GGUF_PRE_TOKENIZER_SPLITS or name in LIKE_GPT2:
        return None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in DIGITS_APART)
    if name in DIGITS_APART:
        first = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([first, byte_level])
    if name in LIKE_OTHERS:
        regex = Regex(GGUF_PRE_TOKENIZER_SPLITS[LIKE_OTHERS[name]])
        return pre_tokenizers.Sequence([pre_tokenizers.Split(regex, "isolated"), byte_level])
    raise CheckpointUnusable(
        f"{header.path.name} splits words in a way ({name}) that is not known here: serve the "
        "original checkpoint of that model, a folder or an id."
    )


def begins(header: GGUFHeader) -> bool:
    """Whether every text begins with a token of its own; files need not say what is usual."""
    stated = header.metadata.get("tokenizer.ggml.add_bos_token")
    if stated is not None:
        return bool(stated)
    if header.metadata.get("tokenizer.ggml.model") == "llama":
        return True
    return header.metadata.get("tokenizer.ggml.pre") in BEGINS_BY_DEFAULT


def add_begin(tokenizer: Tokenizer, begin: str | None, wanted: bool) -> None:
    """Let `add_special_tokens=True` mean this token and nothing else."""
    special = [(begin, tokenizer.token_to_id(begin))] if begin and wanted else []
    mark = [f"{begin}:0"] if special else []
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*mark, "$A:0"], pair=[*mark, "$A:0", "$B:1"], special_tokens=special
    )
