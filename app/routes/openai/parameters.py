"""Request fields that the `/v1` routes refuse, and those they accept without effect."""

from app.errors import InvalidRequest
from schemas.chat_completions import ChatCompletionRequest
from schemas.completions import CompletionRequest

IGNORED_HEADER = "x-ignored-params"
NEUTRAL: tuple[object, ...] = (None, False, [], "none", "auto")
"""Values by which a client says that it does not use a feature."""


def refuse_unsupported(data: ChatCompletionRequest | CompletionRequest) -> None:
    """Raises InvalidRequest for a field whose effect the client would miss."""
    for name, reason in data.refused.items():
        value = getattr(data, name)
        if not any(value is each or value == each for each in NEUTRAL):
            raise InvalidRequest(f"{name}: {reason}.", param=name, code="unsupported_parameter")
    if data.stream_options is not None and not data.stream:
        raise InvalidRequest("stream_options: needs stream to be true.", param="stream_options")


def ignored_headers(data: ChatCompletionRequest | CompletionRequest, *more: str) -> dict[str, str]:
    """The header that names fields which were sent and have no effect here."""
    names = [name for name in data.ignored if getattr(data, name) is not None]
    return {IGNORED_HEADER: ", ".join(sorted([*names, *more]))} if names or more else {}
