"""Request fields that the `/v1` routes refuse, and those they accept without effect."""

from app.errors import InvalidRequest
from schemas.base import NULL
from schemas.chat_completions import ChatCompletionRequest
from schemas.completions import CompletionRequest

IGNORED_HEADER = "x-ignored-params"


def refuse_unsupported(data: ChatCompletionRequest | CompletionRequest) -> None:
    """Raises InvalidRequest for a field whose effect the client would miss."""
    for name, refusal in data.refused.items():
        if bytes(getattr(data, name)).replace(b" ", b"") not in refusal.neutral:
            raise InvalidRequest(
                f"{name}: {refusal.reason}.", param=name, code="unsupported_parameter"
            )
    if data.stream_options is not None and not data.stream:
        raise InvalidRequest("stream_options: needs stream to be true.", param="stream_options")


def ignored_headers(data: ChatCompletionRequest | CompletionRequest, *more: str) -> dict[str, str]:
    """The header that names fields which were sent and have no effect here."""
    names = [name for name in data.ignored if getattr(data, name) not in (None, NULL)]
    if data.stream_options is not None and data.stream_options.include_obfuscation:
        names.append("stream_options.include_obfuscation")
    return {IGNORED_HEADER: ", ".join(sorted([*names, *more]))} if names or more else {}
