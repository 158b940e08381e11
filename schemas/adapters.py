"""LoRA adapters: `/v1/adapters`, and vLLM's two routes for the same."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import ReplyStruct, RequestStruct


class LoadAdapterRequest(RequestStruct, kw_only=True):
    """`POST /v1/adapters`: at most one of `folder` and `repo` says where it is.

    `folder` is a folder's name in the server's folder of adapters, `repo` a Hugging Face id.
    """

    name: str
    folder: str | None = None
    repo: str | None = None
    revision: str | None = None
    pinned: bool | None = None


class AdapterSource(ReplyStruct, kw_only=True):
    """Where an adapter's files come from."""

    kind: Literal["setting", "folder", "hub"]
    location: str
    revision: str | None = None


class AdapterCard(ReplyStruct, tag_field="object", tag="adapter", kw_only=True):
    """An adapter as it is served; of one that could not be loaded, only why."""

    id: str
    parent: str
    status: Literal["loaded", "failed"] = "loaded"
    version: str | None = None
    created: int | None = None
    source: AdapterSource | None = None
    rank: int | None = None
    pinned: bool = False
    requests_in_flight: int = 0
    error: str | None = None
    """Why it, or its newest version, could not be loaded."""


class AdapterList(ReplyStruct, tag_field="object", tag="list", kw_only=True):
    """`GET /v1/adapters`."""

    data: list[AdapterCard]


class AdapterDeleted(ReplyStruct, tag_field="object", tag="adapter.deleted", kw_only=True):
    """`DELETE /v1/adapters/{name}`."""

    id: str
    deleted: bool = True


class LoadLoRARequest(RequestStruct, kw_only=True):
    """`POST /v1/load_lora_adapter`, vLLM's; `lora_path` is a folder's name or a hub id."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: Literal[False] | UnsetType = UNSET


class UnloadLoRARequest(RequestStruct, kw_only=True):
    """`POST /v1/unload_lora_adapter`, vLLM's; the name alone decides."""

    lora_name: str
    lora_int_id: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
