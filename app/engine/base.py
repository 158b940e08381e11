"""What the server asks of an engine, and the attributes of its outputs that replies read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
from PIL.Image import Image

from app.reuse.terms import Reuse

Status = Literal["loading", "ready", "stalled", "restarting", "failed"]
"""`stalled` has long given no sign of life, and may yet; `restarting` is one that comes back: both
take requests, which wait. `failed` does not come back."""


class Limits(msgspec.Struct, frozen=True):
    """What a prompt and its parameters must fit into; lengths in tokens."""

    max_model_len: int
    vocabulary_size: int
    max_token_chars: int
    """Characters of the longest token: a longer text than this times the context cannot fit."""

    max_num_seqs: int = 256
    """Sequences that run at once, over all copies of the model."""

    reads_images: bool = False
    image_token_id: int | None = None
    """Stands for one picture in a prompt that is not illustrated yet; None if no token does."""


class RenderedPrompt(msgspec.Struct, frozen=True):
    """What an engine reads."""

    token_ids: list[int]
    ending: str = ""
    """The last of its text, by which to tell whether it opens a block of thinking."""

    pictures: Any = None
    """What the engine made of pictures; only it reads this."""

    picture_hashes: tuple[str, ...] = ()
    """Of the pictures' content, in order: with the same token ids and hashes it is the same."""

    def followed_by(self, token_ids: Sequence[int]) -> "RenderedPrompt":
        """The same with more behind it."""
        return msgspec.structs.replace(self, token_ids=[*self.token_ids, *token_ids])


PICTURE = "\ufdd0"
"""Stands for a picture in a turn's text. One of the characters that Unicode keeps out of texts and
leaves to programs: https://www.unicode.org/faq/private_use.html#nonchar1"""


class Adapter(msgspec.Struct, frozen=True):
    """One version of a LoRA adapter."""

    name: str
    """Unique to what it holds: prompts are cached under it."""

    number: int
    """From 1; never used twice while the engine lives."""

    path: str
    """Folder of `adapter_config.json` and `adapter_model.safetensors`, which never change."""


EXPERTS = ".experts"
"""How the name of a mixture's experts ends; what is in there is named in several ways."""


class Layer(msgspec.Struct, frozen=True):
    """A layer that an adapter may change: linear, or an embedding of as many tokens as inputs."""

    num_inputs: int
    num_outputs: int


END = -1
"""In place of a segment's number: the reply is complete."""


class Text(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Free text up to and with the first `until`, behind which segment `then` begins."""

    until: str
    then: int
    may_end: bool
    """Whether the reply may also end in here, without `until`."""


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One of some texts, and the segment behind each; no reply gets past an empty choice.

    A text may be the beginning of another only if its segment is END.
    """

    then: dict[str, int]
    may_end: bool = False
    """Whether the reply may also end where this begins."""


class Match(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Text that matches a regular expression, behind which segment `then` begins.

    With a `then` that is not END, no text that matches may be the beginning of another one.
    """

    pattern: str
    """In the dialect of outlines-core, without anchors."""

    param: str
    """The request's field that an error names."""

    then: int = END


Segment = Text | Choice | Match

JSON_CHARACTER = r'[ !#-\[\]-~\x80-\U0003FFFF]|\\["\\/bfnrt]'
"""What strings of free text in a Match best consist of: engines are prepared for it."""


class Constraint(msgspec.Struct, frozen=True):
    """What the whole reply must be: segments, of which the first is where it begins.

    Tokens never cross from one segment into the next. A reply that reaches `max_tokens` has been
    steered to a complete end before, except in a Text that may end.
    """

    segments: tuple[Segment, ...]


class Sampling(msgspec.Struct, frozen=True):
    """How to generate: vLLM's parameter names and values, and whether deltas are wanted."""

    arguments: Mapping[str, Any]
    stream: bool
    constraint: Constraint | None = None

    @property
    def max_tokens(self) -> int:
        """The most that can be generated, by all choices together."""
        num_tokens: int = self.arguments["max_tokens"] * self.arguments.get("n", 1)
        return num_tokens


def forget(_: int) -> None:
    """Nobody counts."""


HIGH, NORMAL, LOW = -1, 0, 1
"""Priorities of requests."""


def unnoted(_: float) -> None:
    """For who does not want to know."""


class Origin(msgspec.Struct, frozen=True):
    """Whom a generation is for, and what that means for its turn."""

    owner: str = ""
    """Alias of the client's key; empty without one. Owners share the engine fairly, and never see
    by its timing what another one's prompts begin with."""

    priority: int = NORMAL
    """As vLLM counts: what has a lower number goes first. HIGH to LOW; in the engine any number."""

    deadline: float = math.inf
    """On the clock of `time.monotonic`; nobody waits any longer."""

    arrived: float = math.inf
    """On the same clock: when it came, if that is longer ago than just now."""

    note_queued: Callable[[float], None] = unnoted
    """Told the seconds that a generation waited for its turn."""

    abandon: Callable[[int], None] = forget
    """Told how many tokens were made and not read, when a generation ends before its end."""

    reuse: Reuse = msgspec.field(default_factory=Reuse)
    """On what terms it may be another one's, or be for others too."""

    def going_on(self) -> "Origin":
        """For more of a request that has had tokens: refused now, those would be lost."""
        return msgspec.structs.replace(self, priority=HIGH)


ANYBODY = Origin()


class Logprob(Protocol):
    """One candidate token at one place."""

    logprob: float
    decoded_token: str | None


class Completion(Protocol):
    """One of `n` texts: all of it, or what came since the last output."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]] | None
    finish_reason: str | None


class Timings(Protocol):
    """What the engine measured of a request."""

    first_token_latency: float
    """Seconds from submission to the first token; 0 before there is one."""


class Output(Protocol):
    """What the engine says of a request at one moment."""

    outputs: Sequence[Completion]
    prompt_token_ids: Sequence[int] | None
    num_cached_tokens: int | None
    finished: bool
    metrics: Timings | None


Take = Callable[[str, Sequence[int]], bool]
"""Takes a delta that is nothing but text of the only choice, and its token ids, if it need not wait
for that. Whether it did; if not, that delta and all that follow are outputs."""


class Generation(Protocol):
    """A running request whose first output is there; iterate it, and always close it.

    Raises GenerationFailed and EngineDead while iterated.
    """

    def __aiter__(self) -> "Generation": ...

    async def __anext__(self) -> Output: ...

    async def pushed(self, take: Take) -> Output:
        """The next output that `take` is not given; it is given those in between, in their order.

        Only behind the first output. What an engine gives away so, it need not wake anybody for.
        """
        ...

    @property
    def num_tokens(self) -> int | None:
        """Generated so far, of all choices; None if they are not counted."""
        ...

    async def aclose(self) -> None:
        """Abort what is still running; a second call does nothing."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back. Safe to use from several threads at once."""

    chat_template: str | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        **arguments: Any,
    ) -> str:
        """Apply the chat template; PICTURE in a message's content becomes what the model wants.

        Raises InvalidRequest if the template refuses the messages.
        """
        ...


class Submitter(Protocol):
    """What takes requests for generations: the engine, and what stands in front of it."""

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> Generation:
        """Start a request and wait for its first output.

        Cancelled while it waits, the request is aborted. Raises InvalidRequest, Overloaded,
        GenerationFailed and EngineDead.
        """
        ...


class Engine(Submitter, Protocol):
    """A language model that answers many requests at once.

    `tokenizer`, `limits` and `layers` may be read once `status` has been "ready".
    """

    @property
    def status(self) -> Status: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def description(self) -> str:
        """One line for people: model class, data type, device."""
        ...

    async def start(self) -> None:
        """Load the model. Raises EngineDead with one sentence if that fails."""
        ...

    @property
    def layers(self) -> Mapping[str, Layer]:
        """Under their names in checkpoints; empty if they are not known."""
        ...

    async def add_adapter(self, adapter: Adapter) -> None:
        """Load it. Raises AdapterUnusable and EngineDead."""
        ...

    async def remove_adapter(self, adapter: Adapter) -> None:
        """Free its memory; no request may name it any more.

        Raises EngineDead and GenerationFailed.
        """
        ...

    async def pin_adapter(self, adapter: Adapter) -> None:
        """Keep it in the device's memory. Raises EngineDead and GenerationFailed."""
        ...

    async def illustrate(self, prompt: RenderedPrompt, images: Sequence[Image]) -> RenderedPrompt:
        """Put pictures (RGB) in their places, in order; each becomes many tokens.

        Raises InvalidRequest.
        """
        ...

    async def heartbeat(self) -> None:
        """Ask for a sign of life and wait for it: at most as long as one step takes.

        Raises EngineDead; an engine that hangs leaves it waiting.
        """
        ...

    async def abort_all(self) -> None:
        """End every running request; each of their generations raises GenerationFailed."""
        ...

    async def close(self) -> None:
        """Stop the engine, also one that hangs, and wait until its processes are gone.

        What is running raises EngineDead; a second call does nothing.
        """
        ...
