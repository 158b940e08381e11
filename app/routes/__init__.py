"""Handlers, one file a URL noun: they translate between HTTP and the modules that do the work."""

from litestar import Router
from litestar.handlers import HTTPRouteHandler

from app.entry import LOADED
from app.routes.native.batch import create_batch
from app.routes.native.chat import answer_prompt, create_chat
from app.routes.native.generate import create_function_call, create_generation
from app.routes.openai.adapters import ADAPTER_ROUTES
from app.routes.openai.chat_completions import create_chat_completion
from app.routes.openai.completions import create_completion
from app.routes.openai.models import list_models, retrieve_model
from app.routes.openai.usage import read_usage
from app.routes.ops.health import (
    read_health,
    read_liveness,
    read_metrics,
    read_readiness,
    read_version,
)
from app.routes.ops.methods import methods_of
from app.routes.ops.tokens import detokenize, tokenize
from app.routes.ops.welcome import read_model_details, welcome

ROUTES: list[HTTPRouteHandler | Router] = [
    methods_of("/"),
    welcome,
    answer_prompt,
    read_health,
    read_liveness,
    read_readiness,
    read_metrics,
    read_version,
    Router(
        "/",
        opt=LOADED,
        route_handlers=[
            create_chat,
            create_generation,
            create_function_call,
            create_batch,
            read_model_details,
            tokenize,
            detokenize,
        ],
    ),
    Router("/v1", route_handlers=[read_usage]),
    Router(
        "/v1",
        opt=LOADED,
        route_handlers=[
            create_chat_completion,
            create_completion,
            list_models,
            retrieve_model,
            ADAPTER_ROUTES,
        ],
    ),
]
"""Everything that is served; what needs the model is marked LOADED."""
