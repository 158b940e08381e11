"""The only assembly: settings in, the ASGI application out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from app.adapters.registry import AdapterRegistry
from app.adapters.watch import watch
from app.admission import Admission, AdmissionMiddleware
from app.body import JSONRequest
from app.docs import api_document, read_api_asset
from app.edge.cors import cors_config
from app.engine.base import Engine
from app.entry import enter
from app.errors import EngineDead, HTTPRefusal, InvalidRequest, ServerError, encode_error
from app.images.loader import ImageLoader
from app.keys.ring import KeyRing
from app.keys.watch import followed
from app.metrics import Metrics
from app.models import ServedModels
from app.prompts import Renderer
from app.queueing.queue import FairQueue
from app.reuse.assembly import answers, with_reuse
from app.reuse.stores import Stores
from app.routes import ROUTES
from app.settings import Settings
from app.tools.registry import load_registry
from app.usage.ledger import Ledger

logger = logging.getLogger(__name__)


class Application(AdmissionMiddleware):
    """The ASGI callable, and the shared objects that whoever runs it needs."""

    def __init__(self, litestar: Litestar, state: State) -> None:
        super().__init__(litestar, state.admission, state.metrics, litestar.cors_config)
        self.litestar = litestar
        self.engine: Engine = state.engine
        self.queue: FairQueue = state.queue
        self.models: ServedModels = state.models

    async def abort_all(self) -> None:
        """End every waiting and running request with an error. Raises ServerError."""
        await self.queue.abort_all()


def create_app(settings: Settings, engine: Engine, metrics: Metrics | None = None) -> Application:
    """Assemble routes, their entry, error handlers and the engine's life.

    `metrics`: those that the engine writes too. Raises ConfigurationError if the module of tools,
    the key file or the place of kept replies cannot be used.
    """
    images = ImageLoader(settings)
    metrics = metrics or Metrics()
    queue = FairQueue(engine, settings, metrics)
    stores = Stores(settings, metrics)
    state = State(
        {
            "settings": settings,
            "images": images,
            "renderer": Renderer(engine, images),
            "engine": engine,
            "queue": queue,
            "submitter": with_reuse(queue, settings, stores, metrics),
            "stores": stores,
            "answers": answers(settings, stores),
            "models": ServedModels(settings, engine, AdapterRegistry(settings, engine)),
            "key_ring": KeyRing(settings),
            "ledger": Ledger(settings),
            "admission": Admission(settings.max_in_flight, settings.owner_share),
            "metrics": metrics,
            "registry": load_registry(settings.tools_module, settings.tool_seconds),
        },
        deep_copy=False,
    )
    litestar = Litestar(
        route_handlers=[*ROUTES, read_api_asset],
        state=state,
        request_class=JSONRequest,
        before_request=enter,
        lifespan=[bookkeeping, engine_life],
        exception_handlers={Exception: reply_to_error},
        openapi_config=api_document(),
        cors_config=cors_config(settings),
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )
    return Application(litestar, state)


@asynccontextmanager
async def bookkeeping(app: Litestar) -> AsyncIterator[None]:
    """Follow the keys, and write down what they use, until after the last request."""
    async with followed(app.state.key_ring), app.state.ledger.written():
        yield


@asynccontextmanager
async def engine_life(app: Litestar) -> AsyncIterator[None]:
    """Load the model beside the server, so that probes are answered meanwhile; stop it after."""
    models: ServedModels = app.state.models
    loading = asyncio.create_task(load(models, app.state.engine))
    try:
        yield
    finally:
        loading.cancel()
        await asyncio.wait([loading])
        await models.close()
        await app.state.images.close()
        await app.state.stores.close()


async def load(models: ServedModels, engine: Engine) -> None:
    """Load the model and its adapters, then follow what changes of these."""
    started = time.perf_counter()
    try:
        await models.start()
    except EngineDead as error:
        logger.error("%s", error.message, exc_info=logger.isEnabledFor(logging.DEBUG))
        return
    seconds = time.perf_counter() - started
    logger.info("%s is ready after %.0f s: %s", models.name, seconds, engine.description)
    if names := [each.name for each in models.adapters]:
        logger.info("adapters: %s", ", ".join(names))
    await watch(models.adapters)


def reply_to_error(request: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
    """Any exception as a reply in its path's dialect; an unexpected one is our 500, logged."""
    error = as_server_error(exception)
    record = request.scope["record"]  # type: ignore[typeddict-item]
    record.error = error.code or error.type
    if type(error) is ServerError:
        logger.error("request %s failed", record.id, exc_info=exception)
    status, body = encode_error(error, record.path)
    return Response(body, status_code=status, headers=error.headers, media_type="application/json")


def as_server_error(exception: Exception) -> ServerError:
    """Our own as they are; Litestar's by status; anything else without its details."""
    if isinstance(exception, ServerError):
        return exception
    if isinstance(exception, HTTPException) and exception.status_code < 500:
        return http_error(exception)
    return ServerError("The server failed to answer this request.")


def http_error(exception: HTTPException) -> ServerError:
    """Routing errors, and what Litestar itself finds wrong with a request."""
    if exception.status_code == 400:
        return wrong_parameter(exception) or InvalidRequest(exception.detail)
    sentence = SENTENCES.get(exception.status_code, exception.detail)
    return HTTPRefusal(sentence, exception.status_code, exception.headers or {})


def wrong_parameter(exception: HTTPException) -> InvalidRequest | None:
    """What Litestar says of a parameter of the URL, with its name in front."""
    for each in exception.extra if isinstance(exception.extra, list) else ():
        name, reason = each.get("key", ""), each.get("message", "")
        return InvalidRequest(f"{name}: {reason}.", param=name)
    return None


SENTENCES = {
    404: "There is nothing at this path.",
    405: "This path does not take this method.",
    413: "The body is larger than this server takes.",
}
