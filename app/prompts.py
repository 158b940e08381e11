"""Messages or text in, token ids that fit the context out, with pictures in their places."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from app.engine.base import Engine, Limits, RenderedPrompt
from app.errors import InvalidRequest, PromptTooLong
from app.images.loader import ImageLoader, all_of
from app.tools.dialects import Dialect, dialect_of
from app.tools.instructions import told
from app.turns import function, images_of, size_of, turns_of
from schemas.messages import ImageURL, Message
from schemas.tools import FunctionDefinition

T = TypeVar("T")

INLINE_CHARS = 2048
"""Up to here rendering and encoding take well under a millisecond, less than a thread hop costs
when the loop is busy (5-70 ms measured); longer prompts must not hold the loop."""

MESSAGE_CHARS = 64
"""What a message costs beside its text, as characters."""

MOST_CHARS_PER_TOKEN = 16
"""No real text has more on average; a bound on the work, whatever the longest token is."""

ENDING_CHARS = 64
"""Of a rendered prompt, enough to tell whether it opens a block of thinking."""

READY_FOR_REPLY = {"add_generation_prompt": True}

threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prompts")


class Prompt(msgspec.Struct, frozen=True):
    """A prompt that is still to be rendered, and how many characters of work that is."""

    chars: int
    render: Callable[[], RenderedPrompt]
    images: Sequence[ImageURL] = ()


class Renderer:
    """Prompts to what the engine reads. Raises InvalidRequest and PromptTooLong."""

    def __init__(self, engine: Engine, images: ImageLoader) -> None:
        self._engine = engine
        self._images = images

    async def rendered(self, prompt: Prompt) -> RenderedPrompt:
        """One that leaves room for a reply."""
        return await self._illustrated(prompt, await run_sized(prompt.chars, prompt.render))

    async def all_rendered(self, prompts: Sequence[Prompt]) -> list[RenderedPrompt]:
        """Many at once: their texts in one piece of work, then the pictures of each."""
        chars = sum(prompt.chars for prompt in prompts)
        texts = await run_sized(chars, lambda: [prompt.render() for prompt in prompts])
        if not any(prompt.images for prompt in prompts):
            return texts
        return await all_of(map(self._illustrated, prompts, texts))

    async def _illustrated(self, prompt: Prompt, text: RenderedPrompt) -> RenderedPrompt:
        if not prompt.images:
            return text
        async with self._images.loaded(prompt.images) as images:
            illustrated = await self._engine.illustrate(text, images)
        check_length(illustrated.token_ids, self._engine.limits, "messages")
        return illustrated


async def run_sized(chars: int, work: Callable[[], T]) -> T:
    """Do small work here and large work in a thread."""
    if chars <= INLINE_CHARS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def chat_prompt(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[FunctionDefinition] = (),
    dialect: Dialect | None = None,
    template_arguments: Mapping[str, Any] = READY_FOR_REPLY,
) -> Prompt:
    """A conversation for the model's chat template, by default ready for the next turn.

    `dialect` is how its tool calls are written, by default as the template betrays.
    Raises PromptTooLong for what cannot fit; rendering raises InvalidRequest too.
    """
    chars = sum(map(size_of, messages)) + len(msgspec.json.encode(tools))
    images = list(images_of(messages))
    check_images(images, engine.limits)
    check_size(chars, engine.limits, "messages")

    def render() -> RenderedPrompt:
        turns, offered = turns_of(messages), [function(tool) for tool in tools]
        written = dialect or dialect_of(engine.tokenizer.chat_template)
        if written.is_taught:
            turns, offered = told(turns, offered, written), []
        arguments = READY_FOR_REPLY | dict(template_arguments)
        text = engine.tokenizer.render(turns, offered or None, **arguments)
        token_ids = engine.tokenizer.encode(text, add_special_tokens=False)
        check_marks(token_ids, engine.limits, len(images), "messages")
        check_length(token_ids, engine.limits, "messages")
        return RenderedPrompt(token_ids, text[-ENDING_CHARS:])

    return Prompt(chars + MESSAGE_CHARS * len(messages), render, images)


def text_prompt(engine: Engine, text: str, *, add_special_tokens: bool = True) -> Prompt:
    """Text as it is, without a template. Raises PromptTooLong for what cannot fit."""
    check_size(len(text), engine.limits, "prompt")

    def render() -> RenderedPrompt:
        token_ids = engine.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        check_marks(token_ids, engine.limits, 0, "prompt")
        return RenderedPrompt(check_length(token_ids, engine.limits, "prompt"))

    return Prompt(len(text) + MESSAGE_CHARS, render)


def token_prompt(engine: Engine, token_ids: list[int]) -> Prompt:
    """Token ids as they are. Rendering raises InvalidRequest and PromptTooLong."""

    def render() -> RenderedPrompt:
        check_marks(token_ids, engine.limits, 0, "prompt")
        return RenderedPrompt(check_length(token_ids, engine.limits, "prompt"))

    return Prompt(0, render)


def check_images(images: Sequence[ImageURL], limits: Limits) -> None:
    """Raises InvalidRequest."""
    if images and not limits.reads_images:
        raise InvalidRequest(
            "messages: image_url parts cannot be read; this model reads text only.",
            param="messages",
        )


def check_marks(token_ids: list[int], limits: Limits, num_images: int, param: str) -> None:
    """As many tokens that stand for pictures as there are pictures: a text may spell one out.

    Raises InvalidRequest.
    """
    if limits.image_token_id is None:
        return
    found = token_ids.count(limits.image_token_id)
    if found != num_images:
        raise InvalidRequest(
            f"{param}: {num_images} pictures were sent, but the prompt has places for {found}. "
            "Pictures are image_url parts of messages; no text may spell out their place.",
            param=param,
        )


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
