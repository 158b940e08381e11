"""`POST /batch`: many prompts in one request, all in the engine at once."""

from collections.abc import Sequence

from litestar import post
from litestar.params import JSONBody

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.engine.base import LOW
from app.errors import InvalidRequest
from app.prompts import Prompt, chat_prompt
from app.replies.native import batch_frames, batch_reply
from app.reply import JSONReply, Reply
from app.routes.parameters import NATIVE_GENERATING, reply_of
from app.several import complete_all, stream_all
from app.sse import EventStream
from schemas.batch import BatchReply, BatchRequest
from schemas.messages import UserMessage


@post(
    "/batch",
    status_code=200,
    responses=reply_of(BatchReply) | NATIVE_GENERATING,
    opt=needs("batch"),
)
async def create_batch(data: JSONBody[BatchRequest], request: JSONRequest) -> Reply:
    """Generate for every prompt; results keep their order, a stream sends each as it ends."""
    call = Call(request)
    model = call.begin(data.model, data.timeout, LOW)
    check_size(data, call.settings.max_batch_prompts)
    turns = ([UserMessage(content=prompt)] for prompt in data.prompts)
    drafts = [chat_prompt(call.engine, each) for each in turns]
    check_images(drafts, call.settings.max_batch_images)
    prompts = await call.all_rendered(drafts)
    if data.stream:
        merged = await stream_all(call, prompts, data, deltas=False)
        return EventStream(batch_frames(merged, call.tokens, model), merged)
    return JSONReply(batch_reply(await complete_all(call, prompts, data), call.tokens, model))


def check_images(prompts: Sequence[Prompt], most: int) -> None:
    """All of them are in memory at once. Raises InvalidRequest."""
    found = sum(len(prompt.images) for prompt in prompts)
    if found > most:
        raise InvalidRequest(
            f"prompts: expected at most {most} pictures in all, got {found}.", param="prompts"
        )


def check_size(data: BatchRequest, most: int) -> None:
    if len(data.prompts) > most:
        raise InvalidRequest(
            f"prompts: expected at most {most}, got {len(data.prompts)}.", param="prompts"
        )
