"""The two shapes of an error body."""

from schemas.base import ReplyStruct


class ErrorDetail(ReplyStruct, kw_only=True):
    """The native routes' error: one sentence."""

    detail: str


class ErrorBody(ReplyStruct, kw_only=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(ReplyStruct, kw_only=True):
    """What `/v1` routes answer, and the last event of a stream that failed."""

    error: ErrorBody
