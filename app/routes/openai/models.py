"""`GET /v1/models` and `GET /v1/models/{model}`."""

from litestar import get
from litestar.params import FromPath

from app.body import JSONRequest
from app.call import Call
from app.routes.parameters import OPENAI_READING, openai_errors
from schemas.models import Model, ModelList


@get("/models", responses=OPENAI_READING)
async def list_models(request: JSONRequest) -> ModelList:
    """Everything that `model` can name: the base model and its adapters."""
    call = Call(request)
    max_model_len, allows = call.engine.limits.max_model_len, call.caller.grant.allows
    return ModelList(data=call.models.cards(max_model_len, allows))


@get("/models/{model:path}", responses=OPENAI_READING | openai_errors(404))
async def retrieve_model(model: FromPath[str], request: JSONRequest) -> Model:
    """One of them; Hugging Face ids have a slash."""
    call = Call(request)
    max_model_len, allows = call.engine.limits.max_model_len, call.caller.grant.allows
    return call.models.card(model.removeprefix("/"), max_model_len, allows)
