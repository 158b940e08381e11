"""Texts in; a processor that reads words and pictures, and an untrained Idefics3, out.

Idefics3, because its processor and vLLM's model of it need no torchvision. Knows nothing of
what is asked or drawn.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from app.demo.tokenizer import TURN_START, train_tokenizer

CONTEXT_LENGTH: Final = 4096
PICTURE_SIDE: Final = 96
PATCH_SIDE: Final = 12
"""Eight patches a side: vLLM and transformers round their positions alike where it is a power of
two."""

PATCHES: Final = PICTURE_SIDE // PATCH_SIDE
"""A side."""

SCALE_FACTOR: Final = 2
PICTURE_TOKENS: Final = (PATCHES // SCALE_FACTOR) ** 2

_PICTURE_TOKEN: Final = "<image>"
_CHAT_TEMPLATE: Final = Path(__file__).parent / "chat_template.jinja"
# Idefics3's processor adds the first three by itself; here they have rows in the embedding too.
_SPECIAL_TOKENS: Final = [
    "<fake_token_around_image>",
    _PICTURE_TOKEN,
    "<end_of_utterance>",
    "<global-img>",
    TURN_START,
]
_BILINEAR: Final = 2
# The usual 0.02 suits models ten times as wide; with it these learn nothing for long.
_INITIAL_SPREAD: Final = 0.08


def build_processor(texts: Iterable[str]) -> Idefics3Processor:
    """Learn the words of `texts`; pictures become squares of `PICTURE_SIDE`, never tiles.

    Bilinear, because PIL and torchvision agree on it, and GPU machines have torchvision.
    """
    tokenizer = train_tokenizer(texts, CONTEXT_LENGTH)
    tokenizer.add_special_tokens({"extra_special_tokens": _SPECIAL_TOKENS})
    tokenizer.chat_template = _CHAT_TEMPLATE.read_text(encoding="utf-8")
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * PICTURE_SIDE},
        max_image_size={"longest_edge": PICTURE_SIDE},
        do_image_splitting=False,
        resample=_BILINEAR,
    )
    template = tokenizer.chat_template
    return Idefics3Processor(pictures, tokenizer, PICTURE_TOKENS, chat_template=template)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """A fresh model of less than 3 M parameters; vLLM's CPU attention wants heads of 32."""
    return Idefics3ForConditionalGeneration(
        Idefics3Config(
            vision_config=_vision(),
            text_config=_text(tokenizer),
            scale_factor=SCALE_FACTOR,
            image_token_id=tokenizer.convert_tokens_to_ids(_PICTURE_TOKEN),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
        )
    )


def _vision() -> dict[str, float]:
    return {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": PICTURE_SIDE,
        "patch_size": PATCH_SIDE,
        "initializer_range": _INITIAL_SPREAD,
    }


def _text(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        initializer_range=_INITIAL_SPREAD,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
