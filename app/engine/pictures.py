"""Pictures in prompts: their places in a chat template, and what vLLM makes of them there."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from PIL.Image import Image
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.exceptions import VLLMError
from vllm.model_executor.model_loader import get_model_cls
from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format

from app.engine.base import PICTURE, RenderedPrompt
from app.errors import InvalidRequest

logger = logging.getLogger(__name__)

MODALITY = "image"
TOKEN_ATTRIBUTES = ("image_token_id", "image_token_index")
"""What the configurations of models call the token that stands for a picture."""


class PictureReader:
    """What the served model wants pictures to look like. One for a model that reads pictures."""

    def __init__(self, llm: AsyncLLMEngine, chat_template: str | None) -> None:
        model, tokenizer = llm.model_config, llm.get_tokenizer()
        self._renderer = llm.renderer
        self._model_class = get_model_cls(model)
        self.chat_template = resolve_chat_template(
            tokenizer, chat_template, None, model_config=model
        )
        self._takes_parts = (
            resolve_chat_template_content_format(
                self.chat_template, None, "auto", tokenizer, model_config=model
            )
            == "openai"
        )
        self.token_id = self._find_token_id(model.hf_config, tokenizer)

    def _find_token_id(self, config: Any, tokenizer: Any) -> int | None:
        """The token that a picture's place begins as, where it is one token of its own."""
        place = tokenizer.encode(self._place(1), add_special_tokens=False)
        named = [getattr(config, name, None) for name in TOKEN_ATTRIBUTES]
        found = [token_id for token_id in named if token_id in place]
        return found[0] if found else place[0] if len(place) == 1 else None

    def _place(self, number: int) -> str:
        return str(self._model_class.get_placeholder_str(MODALITY, number) or "")

    def placed(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages as the template takes them: contents in parts, or as text with places."""
        number, placed = 0, []
        for message in messages:
            texts = message["content"].split(PICTURE)
            content = parts_of(texts) if self._takes_parts else self._text_of(texts, number)
            placed.append(message | {"content": content})
            number += len(texts) - 1
        return placed

    def _text_of(self, texts: Sequence[str], earlier: int) -> str:
        first, *rest = texts
        places = (self._place(earlier + number) for number in range(1, len(texts)))
        return first + "".join(place + text for place, text in zip(places, rest, strict=True))

    async def illustrate(self, prompt: RenderedPrompt, images: Sequence[Image]) -> RenderedPrompt:
        """Each picture's token becomes as many as it takes, in vLLM's own threads.

        The core's cache of pictures is passed by: it believes that it has what was prepared once,
        also for a request that was refused after that, and dies of it. Raises InvalidRequest.
        """
        text = {
            "prompt_token_ids": prompt.token_ids,
            "multi_modal_data": {MODALITY: list(images)},
        }
        try:
            made = await self._renderer.process_for_engine_async(
                text, time.time(), skip_mm_cache=True
            )
        except (VLLMError, ValueError, RuntimeError) as error:
            logger.warning("a picture was refused: %s", error)
            raise InvalidRequest(
                "messages: the model cannot read one of the pictures.",
                param="messages",
                code="invalid_image",
            ) from error
        return msgspec.structs.replace(
            prompt,
            token_ids=list(made["prompt_token_ids"]),
            pictures=made,
            picture_hashes=tuple(made["mm_hashes"][MODALITY]),
        )


def parts_of(texts: Sequence[str]) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for number, text in enumerate(texts):
        if number:
            parts.append({"type": MODALITY})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def reads_images(llm: AsyncLLMEngine) -> bool:
    """Whether the model was made for them; speech models for instance are multimodal too."""
    if not llm.model_config.is_multimodal_model:
        return False
    return MODALITY in llm.renderer.get_mm_processor().info.supported_mm_limits
