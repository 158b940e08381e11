"""Messages or text in, token ids that fit the context out."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from app.engine.base import Engine, Limits
from app.errors import InvalidRequest, PromptTooLong
from schemas.generate import Tool
from schemas.messages import AssistantMessage, ImagePart, Message, TextPart

T = TypeVar("T")

INLINE_CHARS = 2048
"""Up to here rendering and encoding take well under a millisecond, less than a thread hop costs
when the loop is busy (5-70 ms measured); longer prompts must not hold the loop."""

MESSAGE_CHARS = 64
"""What a message costs beside its text, as characters."""

MOST_CHARS_PER_TOKEN = 16
"""No real text has more on average; a bound on the work, whatever the longest token is."""

READY_FOR_REPLY = {"add_generation_prompt": True}

threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prompts")


class Prompt(msgspec.Struct, frozen=True):
    """A prompt that is still to be rendered, and how many characters of work that is."""

    chars: int
    render: Callable[[], list[int]]


async def rendered(prompt: Prompt) -> list[int]:
    """Token ids that leave room for a reply. Raises InvalidRequest and PromptTooLong."""
    return await run_sized(prompt.chars, prompt.render)


async def all_rendered(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The same for many at once, in one piece of work."""
    chars = sum(prompt.chars for prompt in prompts)
    return await run_sized(chars, lambda: [prompt.render() for prompt in prompts])


async def run_sized(chars: int, work: Callable[[], T]) -> T:
    """Do small work here and large work in a thread."""
    if chars <= INLINE_CHARS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def chat_prompt(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
    template_arguments: Mapping[str, Any] = READY_FOR_REPLY,
) -> Prompt:
    """A conversation for the model's chat template, by default ready for the next turn.

    Raises PromptTooLong for what cannot fit; rendering raises InvalidRequest too.
    """
    chars = sum(map(size_of, messages)) + len(msgspec.json.encode(tools))
    check_size(chars, engine.limits, "messages")

    def render() -> list[int]:
        turns = [turn(message) for message in messages]
        offered = [function(tool) for tool in tools] or None
        text = engine.tokenizer.render(turns, offered, **READY_FOR_REPLY | dict(template_arguments))
        token_ids = engine.tokenizer.encode(text, add_special_tokens=False)
        return check_length(token_ids, engine.limits, "messages")

    return Prompt(chars + MESSAGE_CHARS * len(messages), render)


def text_prompt(engine: Engine, text: str, *, add_special_tokens: bool = True) -> Prompt:
    """Text as it is, without a template. Raises PromptTooLong for what cannot fit."""
    check_size(len(text), engine.limits, "prompt")

    def render() -> list[int]:
        token_ids = engine.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return check_length(token_ids, engine.limits, "prompt")

    return Prompt(len(text) + MESSAGE_CHARS, render)


def size_of(message: Message) -> int:
    """Characters of everything in a message that a template may write."""
    content = message.content or ""
    parts = [content] if isinstance(content, str) else map(text_of, content)
    chars = sum(map(len, parts))
    if isinstance(message, AssistantMessage):
        chars += sum(len(call.function.arguments) for call in message.tool_calls or ())
    return chars


def text_of(part: TextPart | ImagePart) -> str:
    """The text of a part. Raises InvalidRequest if it is a picture."""
    if isinstance(part, ImagePart):
        raise InvalidRequest(
            "messages: image_url parts cannot be read; this server takes text only.",
            param="messages",
        )
    return part.text


def turn(message: Message) -> dict[str, Any]:
    """A message as chat templates know it: plain text, and no role that they do not have."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    if fields["role"] == "developer":
        fields["role"] = "system"
    for call in fields.get("tool_calls", ()):
        call["function"]["arguments"] = parsed(call["function"]["arguments"])
    content = message.content or ""
    text = content if isinstance(content, str) else "\n".join(map(text_of, content))
    return fields | {"content": text}


def parsed(arguments: str) -> Any:
    """A call's arguments as an object, which templates write as JSON themselves."""
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments


def function(tool: Tool) -> dict[str, Any]:
    """A tool in the shape that chat templates expect."""
    return {"type": "function", "function": msgspec.to_builtins(tool)}


def check_size(chars: int, limits: Limits, param: str) -> None:
    """Refuse what cannot fit whatever its tokens are, before time is spent on them."""
    most = limits.max_model_len * min(limits.max_token_chars, MOST_CHARS_PER_TOKEN)
    if chars > most:
        raise PromptTooLong(
            f"The prompt has {chars} characters; this model's context of "
            f"{limits.max_model_len} tokens holds at most {most}.",
            param=param,
        )


def check_length(token_ids: list[int], limits: Limits, param: str) -> list[int]:
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
