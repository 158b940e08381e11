"""What a whole reply is held to: `response_format`, or `structured_outputs` in vLLM's spelling."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from app.engine.base import END, Choice, Constraint, Match, Segment
from app.errors import InvalidRequest
from app.tools.dialects import END_THINK, GAPS, Thinking, thinking_segments
from app.tools.gate.admitted import (
    AdmittedPattern,
    AdmittedSchema,
    SchemaViolation,
    admit,
    admit_pattern,
    json_object,
)
from schemas.chat_completions import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.structured import (
    JSONObjectFormat,
    JSONSchemaFormat,
    ResponseFormat,
    StructuredOutputs,
)

MAX_CHARS_OF_CHOICES = 16384
"""Of all texts to choose from: each character is a state of the constraint."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A form of replies: what admits them, or else all `texts` that they may be."""

    param: str
    schema: AdmittedSchema | None = None
    pattern: AdmittedPattern | None = None
    texts: tuple[str, ...] = ()
    thinking: Thinking = "none"

    def after(self, thinking: Thinking) -> "Format":
        """The same form behind a model's thinking; one that thinks only perhaps does not."""
        return msgspec.structs.replace(self, thinking="none" if thinking == "perhaps" else thinking)

    @property
    def constraint(self) -> Constraint:
        """Hold a reply to it, from where its thinking ends."""
        lead = thinking_segments(self.thinking)
        return Constraint((*lead, self._answer(GAPS if lead else GAPS[:1])))

    def _answer(self, gaps: tuple[str, ...]) -> Segment:
        admitted = self.schema or self.pattern
        if admitted is None:
            return Choice(then={gap + text: END for text in self.texts for gap in gaps})
        pattern = admitted.pattern
        return Match(
            pattern=pattern if len(gaps) == 1 else rf"\n{{0,2}}(?:{pattern})", param=self.param
        )

    def verify(self, text: str) -> None:
        """Check a complete reply, thinking included. Raises SchemaViolation."""
        *others, last = answers(text, self.thinking)
        if not any(map(self._is_answer, others)):
            self._verify_answer(last)

    def _is_answer(self, text: str) -> bool:
        try:
            self._verify_answer(text)
        except SchemaViolation:
            return False
        return True

    def _verify_answer(self, answer: str) -> None:
        if self.schema is not None:
            self.schema.verify(answer)
        elif self.pattern is not None:
            self.pattern.verify(answer)
        elif answer.lstrip() not in map(str.lstrip, self.texts):
            raise SchemaViolation("The reply is none of the choices.")


def answers(text: str, thinking: Thinking) -> list[str]:
    """What a reply may say behind its thinking: line ends between them belong to either."""
    if thinking == "none":
        return [text]
    rest = text.partition(END_THINK)[2]
    return [rest.removeprefix(gap) for gap in GAPS if rest.startswith(gap)]


def format_of(request: ChatCompletionRequest | CompletionRequest) -> Format | None:
    """The form a request asks for; None for free text. Raises InvalidRequest."""
    form = asked_form(request)
    if form is not None:
        refuse_stops(request)
    return form


def refuse_stops(request: ChatCompletionRequest | CompletionRequest) -> None:
    """A reply that ends anywhere else is not of the form. Raises InvalidRequest."""
    for name in ("stop", "stop_token_ids"):
        if getattr(request, name):
            raise InvalidRequest(
                f"{name}: not together with a format; that says where the reply ends.", param=name
            )


def asked_form(request: ChatCompletionRequest | CompletionRequest) -> Format | None:
    """Raises InvalidRequest."""
    asked, structured = request.response_format, request.structured_outputs
    if structured is None:
        return None if asked is None else response_format(asked)
    if asked is not None:
        raise InvalidRequest(
            "structured_outputs: not together with response_format.", param="structured_outputs"
        )
    return structured_outputs(structured)


def response_format(asked: ResponseFormat) -> Format | None:
    param = "response_format"
    if isinstance(asked, JSONSchemaFormat):
        return Format(param=param, schema=admit(asked.json_schema.schema, param))
    if isinstance(asked, JSONObjectFormat):
        return Format(param=param, schema=json_object(param))
    return None


def structured_outputs(asked: StructuredOutputs) -> Format:
    """Raises InvalidRequest unless exactly one form is asked for."""
    asked_for = {name: value for name in FORMS if (value := getattr(asked, name))}
    if asked.json is not None:
        asked_for["json"] = asked.json
    if len(asked_for) != 1:
        raise InvalidRequest(
            f"structured_outputs: exactly one of {', '.join(FORMS)} is expected.",
            param="structured_outputs",
        )
    ((name, value),) = asked_for.items()
    return FORMS[name](value, f"structured_outputs.{name}")


def schema_text(schema: Any, param: str) -> Any:
    """A schema that may have been sent as JSON text."""
    try:
        return msgspec.json.decode(schema) if isinstance(schema, str) else schema
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"{param}: it is not JSON: {error}.", param=param) from error


def distinct_texts(texts: Sequence[str], param: str) -> tuple[str, ...]:
    """Raises InvalidRequest if they are too long together."""
    if sum(map(len, texts)) > MAX_CHARS_OF_CHOICES:
        raise InvalidRequest(
            f"{param}: expected at most {MAX_CHARS_OF_CHOICES} characters in all.", param=param
        )
    return tuple(dict.fromkeys(texts))


FORMS: dict[str, Callable[[Any, str], Format]] = {
    "json": lambda given, param: Format(
        param=param, schema=admit(schema_text(given, param), param)
    ),
    "choice": lambda given, param: Format(param=param, texts=distinct_texts(given, param)),
    "regex": lambda given, param: Format(param=param, pattern=admit_pattern(given, param)),
    "json_object": lambda _, param: Format(param=param, schema=json_object(param)),
}
