"""What is served: `GET /v1/models`, `GET /model/info`, and the server's own state."""

from typing import Literal

from schemas.base import ReplyStruct


class Model(ReplyStruct, tag_field="object", tag="model", kw_only=True):
    """A model or adapter that requests can name; `parent` is an adapter's base model."""

    id: str
    created: int
    owned_by: str = "slipstream"
    root: str
    parent: str | None = None
    max_model_len: int


class ModelList(ReplyStruct, tag_field="object", tag="list", kw_only=True):
    """Everything that is served."""

    data: list[Model]


class ModelDetails(ReplyStruct, kw_only=True):
    """`GET /model/info`."""

    model_name: str
    model_path: str
    adapter_path: str | None
    template: str
    status: Literal["loaded"] = "loaded"


class Welcome(ReplyStruct, kw_only=True):
    """`GET /`."""

    message: str
    version: str
    docs: str = "/docs"
    health: str = "/health"


class Health(ReplyStruct, kw_only=True):
    """`GET /health`; the status code is 503 while `model_loaded` is false."""

    status: Literal["healthy", "loading", "stalled", "restarting", "draining", "failed"]
    model_loaded: bool
    model_name: str


class Version(ReplyStruct, kw_only=True):
    """`GET /version`."""

    version: str
    vllm: str
