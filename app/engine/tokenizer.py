"""vLLM's tokenizer behind our three verbs."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError

from app.engine.pictures import PictureReader
from app.engine.template import plain_template
from app.errors import InvalidRequest

PLAIN_ARGUMENTS = frozenset({"add_generation_prompt"})
"""With which transformers do nothing around the template."""


class EngineTokenizer:
    """Encodes on the Rust tokenizer directly where there is one.

    The Python wrapper sets truncation before every call, which costs time and is not safe from
    several threads; tokenizers without a Rust part are used one call at a time.
    """

    def __init__(
        self, tokenizer: Any, chat_template: str | None, pictures: PictureReader | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._pictures = pictures
        self._lock = threading.Lock()
        self._rust = getattr(tokenizer, "backend_tokenizer", None)
        resolved = pictures.chat_template if pictures else chat_template
        self.chat_template = resolved or getattr(tokenizer, "chat_template", None)
        self._template = plain_template(tokenizer, self.chat_template)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        rust = self._rust
        if rust is not None:
            # The batch call lets go of the GIL, so a long text in a thread stops nobody; the fast
            # one does not work out where in the text each token is.
            return panics_refused(
                lambda: rust.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
            )
        with self._lock:
            return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, token_ids: Sequence[int]) -> str:
        if self._rust is not None:
            text: str = self._rust.decode(list(token_ids), skip_special_tokens=False)
            return text
        with self._lock:
            return str(self._tokenizer.decode(list(token_ids)))

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        **arguments: Any,
    ) -> str:
        """Apply the chat template, in transformers' sandbox.

        Raises InvalidRequest if there is none, or if it refuses the messages.
        """
        if self.chat_template is None:
            raise InvalidRequest(
                "This model has no chat template; use /v1/completions, or set LLM_CHAT_TEMPLATE."
            )
        placed = self._pictures.placed(messages) if self._pictures else messages
        return template_errors_refused(lambda: self._apply(placed, tools, arguments))

    def _apply(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        arguments: dict[str, Any],
    ) -> str:
        if self._template is not None and messages and arguments.keys() <= PLAIN_ARGUMENTS:
            return self._template.render(messages, tools, **arguments)
        applied: str = self._tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=self.chat_template, tokenize=False, **arguments
        )
        return applied

    @property
    def max_token_chars(self) -> int:
        """Characters of the longest token of the vocabulary."""
        return max(map(len, self._tokenizer.get_vocab()), default=1)


def template_errors_refused(render: Callable[[], str]) -> str:
    """A template says no, for instance to roles in the wrong order, by raising."""
    try:
        return render()
    except TemplateError as error:
        raise InvalidRequest(
            f"messages: the model's chat template refuses them: {error}.", param="messages"
        ) from error


def panics_refused(encode: Callable[[], list[int]]) -> list[int]:
    """A panic is how the Rust tokenizer says that its pattern gave up, for instance on ten million
    spaces in a row. What it raises then is no Exception and has no name that can be imported."""
    try:
        return encode()
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidRequest("The text cannot be split into tokens by this model.") from error
