"""Everything that can go wrong on purpose, its status, and its two wire dialects.

    ServerError
        RequestError            the client's fault
            InvalidRequest      400, on native routes 422
                PromptTooLong
            Unauthorized        401
            Forbidden           403
            ModelNotFound       404
            AdapterNotFound     404
            AdapterConflict     409
            IdempotencyConflict 409
            UnsupportedMedia    415
            AdapterUnusable     422
            MalformedHTTP       400, before there is a request
            RequestTimedOut     408
            HTTPRefusal         what the router refuses: 404, 405, 413
            URLTooLong          414
            HeadersTooLarge     431
        CapacityError           try again later; carries Retry-After
            RateLimited         429
            Overloaded          503
            Draining            503
            ModelNotLoaded      503
            EngineRestarting    503
            HubUnreachable      503
            TooManyConnections  503
            DeadlineUnreachable 503
            UsageUnreadable     503
        DeadlineExceeded        504
        EngineError             our fault
            GenerationFailed    500
            EngineDead          503
                EngineDeadAgain
        StateUnwritable         500, for instance a full disk
        ClientDisconnected      nobody is there to read a reply; logged as 499

Only these make a 4xx: a stray ValueError is a 500 with its traceback in the log.
"""

from collections.abc import Mapping

import msgspec

from schemas.errors import ErrorBody, ErrorDetail, ErrorReply

MAX_MESSAGE_CHARS = 512
MAX_PARAM_CHARS = 128
"""Both may echo what the client sent; as JSON a character takes up to six bytes."""


class ServerError(Exception):
    """An error with a status and a sentence for the client."""

    status = 500
    type = "server_error"
    code: str | None = None
    is_final = True
    """Whether the same request would only fail again; clients of OpenAI's library, which retry on
    408, 409, 429 and every 5xx, are told so."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code

    @property
    def native_status(self) -> int:
        return self.status

    @property
    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"} if self.is_final else {}


class RequestError(ServerError):
    """The request cannot be served as it is; sending it again will not help."""

    type = "invalid_request_error"
    is_final = False


class InvalidRequest(RequestError):
    """A field is missing, unknown, of the wrong kind or out of range; `param` names it."""

    status = 400

    @property
    def native_status(self) -> int:
        return 422


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for a single new token."""

    code = "context_length_exceeded"


class Unauthorized(RequestError):
    """No key, or not one of ours."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class Forbidden(RequestError):
    """The key is ours, but not for this."""

    status = 403
    type = "permission_error"
    code = "insufficient_permissions"


class ModelNotFound(RequestError):
    """The request names a model that is not served here."""

    status = 404
    code = "model_not_found"


class AdapterNotFound(RequestError):
    """There is no such adapter, or nowhere to load it from."""

    status = 404
    code = "adapter_not_found"


class AdapterConflict(RequestError):
    """The adapter does not go with what is served: its name is taken, or its base is another."""

    status = 409
    code = "adapter_conflict"


class IdempotencyConflict(RequestError):
    """The Idempotency-Key belongs to another request."""

    status = 409
    code = "idempotency_conflict"


class AdapterUnusable(RequestError):
    """The adapter's files are not what they should be."""

    status = 422
    code = "adapter_unusable"


class UnsupportedMedia(RequestError):
    """The body is not JSON."""

    status = 415


class HTTPRefusal(RequestError):
    """What the router refuses, with its status and the headers that HTTP wants beside it."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self._headers = dict(headers)

    @property
    def headers(self) -> dict[str, str]:
        return self._headers


class MalformedHTTP(RequestError):
    """What came is not HTTP as it is spoken here, on any path."""

    status = 400
    code = "malformed_http"


class RequestTimedOut(RequestError):
    """The client took too long to send its request."""

    status = 408
    code = "request_timeout"


class URLTooLong(RequestError):
    """The request's target is longer than any of ours."""

    status = 414
    code = "url_too_long"


class HeadersTooLarge(RequestError):
    """Too many header fields, or too many bytes of them."""

    status = 431
    code = "headers_too_large"


class CapacityError(ServerError):
    """Not now: the same request may succeed after `retry_after_seconds`."""

    status = 503
    type = "overloaded_error"
    retry_after_seconds = 1

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds or self.retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after_seconds)}


class RateLimited(CapacityError):
    """The key has used up what it may; `kind` is what of: `requests` or `tokens`."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_seconds: int, kind: str) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.type = kind


class Overloaded(CapacityError):
    """Every permit is taken, or the queue is full."""

    code = "overloaded"


class Draining(CapacityError):
    """The server is shutting down and takes no new work."""

    code = "draining"

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "connection": "close"}


class ModelNotLoaded(CapacityError):
    """The engine is still loading, or failed to."""

    code = "model_not_loaded"
    retry_after_seconds = 5


class EngineRestarting(CapacityError):
    """The engine has died, and another took longer to load than a request waits."""

    code = "engine_restarting"
    retry_after_seconds = 10


class HubUnreachable(CapacityError):
    """The hub that an adapter comes from did not answer."""

    code = "hub_unreachable"
    retry_after_seconds = 10


class TooManyConnections(CapacityError):
    """As many connections are open as this process may have."""

    code = "too_many_connections"


class DeadlineUnreachable(CapacityError):
    """So much waits already that the request would not even begin before its deadline."""

    code = "deadline_unreachable"


class UsageUnreadable(CapacityError):
    """The file of what keys have used is locked, damaged or away."""

    type = "server_error"
    code = "usage_unreadable"
    retry_after_seconds = 10


class DeadlineExceeded(ServerError):
    """The request's own deadline has passed; whoever set it does not want the reply any more."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class EngineError(ServerError):
    """The engine did not do what it was asked."""

    is_final = False


class GenerationFailed(EngineError):
    """This one generation failed; the engine lives."""

    code = "generation_failed"

    @property
    def is_final(self) -> bool:  # type: ignore[override]
        """What has a code of its own was generated again already, as often as it may be."""
        return self.code != GenerationFailed.code


class EngineDead(EngineError):
    """The engine process is gone, and this request with it."""

    status = 503
    code = "engine_dead"

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": "30"}


class EngineDeadAgain(EngineDead):
    """One engine after the other died over this request, which may be why: it is not sent again
    by clients that retry by themselves, and so does not end the server."""

    @property
    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}


class StateUnwritable(ServerError):
    """What must outlive a restart could not be written."""

    code = "state_unwritable"


class ClientDisconnected(ServerError):
    """The client left before its reply began."""

    status = 499
    code = "client_disconnected"


def is_openai_path(path: str) -> bool:
    """Whether errors of this path are told in OpenAI's dialect."""
    return path.startswith("/v1/") or path == "/v1"


def openai_error(error: ServerError) -> ErrorReply:
    """The error as OpenAI's object, for `/v1` replies and for the last event of a stream."""
    return ErrorReply(
        error=ErrorBody(
            message=error.message[:MAX_MESSAGE_CHARS],
            type=error.type,
            param=error.param and error.param[:MAX_PARAM_CHARS],
            code=error.code,
        )
    )


def encode_error(error: ServerError, path: str) -> tuple[int, bytes]:
    """Status and body of an error on this path, in the path's dialect."""
    if is_openai_path(path):
        return error.status, msgspec.json.encode(openai_error(error))
    detail = ErrorDetail(detail=error.message[:MAX_MESSAGE_CHARS])
    return error.native_status, msgspec.json.encode(detail)
