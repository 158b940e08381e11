"""`/v1/adapters`, and vLLM's `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`: for admins."""

from litestar import MediaType, Router, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from app.adapters.loaded import Served
from app.adapters.registry import AdapterRegistry
from app.adapters.source import HUB_ID, Source, check_hub_id
from app.auth import needs
from app.errors import AdapterNotFound, InvalidRequest
from app.routes.ops.methods import methods_of
from app.routes.parameters import OPENAI_READING, SENDING, openai_errors
from schemas.adapters import (
    AdapterCard,
    AdapterDeleted,
    AdapterList,
    AdapterSource,
    LoadAdapterRequest,
    LoadLoRARequest,
    UnloadLoRARequest,
)

LOADING = openai_errors(*SENDING, 404, 422)
READING_ONE = OPENAI_READING | openai_errors(404)


@get("/adapters", responses=OPENAI_READING)
async def list_adapters(state: State) -> AdapterList:
    """Every adapter, with those that should be served and could not be loaded."""
    adapters: AdapterRegistry = state.models.adapters
    names = dict.fromkeys([*(each.name for each in adapters), *adapters.failures])
    return AdapterList(data=[card(name, state) for name in names])


@get("/adapters/{name:str}", responses=READING_ONE)
async def retrieve_adapter(name: FromPath[str], state: State) -> AdapterCard:
    """One of them."""
    return card(name, state)


@post("/adapters", status_code=200, responses=LOADING)
async def load_adapter(data: JSONBody[LoadAdapterRequest], state: State) -> AdapterCard:
    """Load an adapter, or its newest version; running requests finish on the old one."""
    await state.models.adapters.load(data.name, source_of(data), data.pinned)
    return card(data.name, state)


@delete("/adapters/{name:str}", status_code=200, responses=READING_ONE | openai_errors(409))
async def unload_adapter(name: FromPath[str], state: State) -> AdapterDeleted:
    """Unload an adapter; its memory is freed when its running requests have ended."""
    await state.models.adapters.unload(name)
    return AdapterDeleted(id=name)


@post("/load_lora_adapter", status_code=200, media_type=MediaType.TEXT, responses=LOADING)
async def load_lora_adapter(data: JSONBody[LoadLoRARequest], state: State) -> str:
    """The same in vLLM's words: a name that is taken needs `load_inplace`."""
    adapters: AdapterRegistry = state.models.adapters
    if data.lora_name in adapters and not data.load_inplace:
        raise InvalidRequest(
            f"The lora adapter {data.lora_name!r} has already been loaded; "
            "set load_inplace to load it anew.",
            param="lora_name",
        )
    is_hub_id = HUB_ID.fullmatch(data.lora_path)
    source = Source("hub" if is_hub_id else "folder", data.lora_path)
    await adapters.load(data.lora_name, source, None)
    return f"Success: LoRA adapter '{data.lora_name}' added successfully."


@post("/unload_lora_adapter", status_code=200, media_type=MediaType.TEXT, responses=LOADING)
async def unload_lora_adapter(data: JSONBody[UnloadLoRARequest], state: State) -> str:
    """The same in vLLM's words."""
    await state.models.adapters.unload(data.lora_name)
    return f"Success: LoRA adapter '{data.lora_name}' removed successfully."


def source_of(data: LoadAdapterRequest) -> Source | None:
    """Where the request wants the adapter from. Raises InvalidRequest."""
    if data.folder is not None and data.repo is not None:
        raise InvalidRequest("Send at most one of folder and repo.", param="folder")
    if data.revision is not None and data.repo is None:
        raise InvalidRequest("revision: only a repo has revisions.", param="revision")
    if data.repo is not None:
        check_hub_id(data.repo)
        return Source("hub", data.repo, data.revision or "")
    return None if data.folder is None else Source("folder", data.folder)


def card(name: str, state: State) -> AdapterCard:
    """What there is to say of a name. Raises AdapterNotFound."""
    adapters: AdapterRegistry = state.models.adapters
    error = adapters.failures.get(name)
    if name in adapters:
        return loaded_card(adapters[name], state.models.name, error)
    if error is None:
        raise AdapterNotFound(f"No adapter {name[:100]!r} is loaded.", param="name")
    return AdapterCard(id=name, parent=state.models.name, status="failed", error=error)


def loaded_card(served: Served, parent: str, error: str | None) -> AdapterCard:
    source, version = served.source, served.version
    return AdapterCard(
        id=served.name,
        parent=parent,
        version=version.adapter.name,
        created=version.created,
        source=AdapterSource(
            kind=source.kind, location=source.location, revision=source.revision or None
        ),
        rank=version.rank,
        pinned=served.wants_pin,
        requests_in_flight=version.num_requests,
        error=error,
    )


ADAPTER_ROUTES = Router(
    "/",
    opt=needs("adapters"),
    route_handlers=[
        methods_of("/adapters", "/adapters/{name:str}"),
        list_adapters,
        retrieve_adapter,
        load_adapter,
        unload_adapter,
        load_lora_adapter,
        unload_lora_adapter,
    ],
)
