"""Messages or text in, token ids that fit the context out."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from app.engine.base import Engine, Limits, Tokenizer
from app.errors import InvalidRequest, PromptTooLong
from schemas.generate import Tool
from schemas.messages import ImagePart, Message, TextPart

T = TypeVar("T")

INLINE_CHARS = 2048
"""Up to here rendering and encoding take well under a millisecond, less than a thread hop costs
when the loop is busy (5-70 ms measured); longer prompts must not hold the loop."""

READY_FOR_REPLY = {"add_generation_prompt": True}

threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prompts")


async def render_chat(
    engine: Engine,
    messages: list[Message],
    *,
    tools: list[Tool] | None = None,
    template_arguments: Mapping[str, Any] = READY_FOR_REPLY,
) -> list[int]:
    """The conversation through the model's chat template, by default ready for the next turn.

    Raises InvalidRequest and PromptTooLong.
    """
    turns = [turn(message) for message in messages]
    offered = [function(tool) for tool in tools] if tools else None
    chars = sum(len(each["content"]) for each in turns)
    check_size(chars, engine.limits)

    def render(tokenizer: Tokenizer) -> list[int]:
        text = tokenizer.render(turns, offered, **(READY_FOR_REPLY | dict(template_arguments)))
        return tokenizer.encode(text, add_special_tokens=False)

    size = chars + len(str(offered))
    return await run_sized(size, lambda: check_length(render(engine.tokenizer), engine.limits))


async def render_text(
    engine: Engine, text: str, *, add_special_tokens: bool = True, param: str = "prompt"
) -> list[int]:
    """Text as it is, without a template. Raises InvalidRequest and PromptTooLong."""
    check_size(len(text), engine.limits, param)

    def encode() -> list[int]:
        token_ids = engine.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return check_length(token_ids, engine.limits, param)

    return await run_sized(len(text), encode)


async def run_sized(size: int, work: Callable[[], T]) -> T:
    """Do small work here and large work in a thread."""
    if size <= INLINE_CHARS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def turn(message: Message) -> dict[str, Any]:
    """A message as chat templates know it: plain text, and no role that they do not have."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    if fields["role"] == "developer":
        fields["role"] = "system"
    for call in fields.get("tool_calls", ()):
        call["function"]["arguments"] = parsed(call["function"]["arguments"])
    return fields | {"content": plain_text(message)}


def parsed(arguments: str) -> Any:
    """A call's arguments as an object, which templates write as JSON themselves."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def plain_text(message: Message) -> str:
    """The text of a message. Raises InvalidRequest if there is a picture in it."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    parts = message.content
    if any(isinstance(part, ImagePart) for part in parts):
        raise InvalidRequest(
            "messages: this model reads text only; image_url parts need a vision model.",
            param="messages",
        )
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def function(tool: Tool) -> dict[str, Any]:
    """A tool in the shape that chat templates expect."""
    return {"type": "function", "function": msgspec.to_builtins(tool)}


def check_size(chars: int, limits: Limits, param: str = "messages") -> None:
    """Refuse what cannot fit whatever its tokens are, before time is spent on them."""
    most = limits.max_model_len * limits.max_token_chars
    if chars > most:
        raise PromptTooLong(
            f"The prompt has {chars} characters; this model's context of "
            f"{limits.max_model_len} tokens holds at most {most}.",
            param=param,
        )


def check_length(token_ids: list[int], limits: Limits, param: str = "messages") -> list[int]:
    """The token ids, if they leave room for a reply. Raises InvalidRequest and PromptTooLong."""
    if not token_ids:
        raise InvalidRequest(f"{param}: the prompt is empty.", param=param)
    if len(token_ids) >= limits.max_model_len:
        raise PromptTooLong(
            f"The prompt has {len(token_ids)} tokens; this model's context holds "
            f"{limits.max_model_len}, one of them for the reply.",
            param=param,
        )
    return token_ids
