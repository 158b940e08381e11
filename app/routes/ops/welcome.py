"""`GET /` and `GET /model/info`."""

from litestar import get

from app import __version__
from app.body import JSONRequest
from app.call import Call
from app.routes.parameters import NATIVE_READING, native_errors
from schemas.models import ModelDetails, Welcome


@get("/", responses=NATIVE_READING)
async def welcome() -> Welcome:
    """What this is and where to go on."""
    return Welcome(message="Slipstream LLM API", version=__version__)


@get("/model/info", responses=NATIVE_READING | native_errors(404))
async def read_model_details(request: JSONRequest) -> ModelDetails:
    """What is loaded and from where."""
    call = Call(request)
    models, allows = call.models, call.caller.grant.allows
    adapters = (each for each in models.adapters if allows(each.name))
    places = (models.adapters.files.place(each.source) for each in adapters)
    return ModelDetails(
        model_name=models.resolve(None, allows),
        model_path=models.path,
        adapter_path=next(places, None),
        template=template_name(call.engine.tokenizer.chat_template),
    )


def template_name(chat_template: str | None) -> str:
    """The family a chat template belongs to, told by its markers."""
    for marker, name in TEMPLATE_MARKERS:
        if chat_template and marker in chat_template:
            return name
    return "none" if chat_template is None else "custom"


TEMPLATE_MARKERS = (
    ("<|im_start|>", "chatml"),
    ("<|start_header_id|>", "llama3"),
    ("[INST]", "mistral"),
    ("<start_of_turn>", "gemma"),
    ("<|assistant|>", "phi"),
)
