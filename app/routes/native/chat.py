"""`POST /chat` and `POST /`: conversations."""

from litestar import post
from litestar.params import JSONBody

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.entry import LOADED
from app.prompts import chat_prompt
from app.replies.native import chat_reply, delta_frames, prompt_reply
from app.reply import JSONReply, Reply
from app.routes.parameters import NATIVE_GENERATING, reply_of
from app.sse import EventStream
from schemas.chat import ChatReply, ChatRequest, PromptReply, PromptRequest
from schemas.messages import SystemMessage, UserMessage

DEFAULT_SYSTEM_PROMPT = SystemMessage(content="You are a helpful assistant.")


@post(
    "/chat", status_code=200, responses=reply_of(ChatReply) | NATIVE_GENERATING, opt=needs("chat")
)
async def create_chat(data: JSONBody[ChatRequest], request: JSONRequest) -> Reply:
    """Continue a conversation."""
    call = Call(request)
    model = call.begin(data.model, data.timeout)
    prompt = await call.rendered(chat_prompt(call.engine, data.messages))
    if data.stream:
        generation = await call.stream(prompt, data)
        frames = delta_frames(generation, call.tokens, model, call.record.write)
        return EventStream(frames, generation)
    return JSONReply(chat_reply(await call.complete(prompt, data), call.tokens, model))


@post(
    "/",
    status_code=200,
    responses=reply_of(PromptReply) | NATIVE_GENERATING,
    opt=needs("chat") | LOADED,
)
async def answer_prompt(data: JSONBody[PromptRequest], request: JSONRequest) -> Reply:
    """Answer one prompt: after a default system prompt, or as the next turn of `history`."""
    call = Call(request)
    call.begin(data.model, data.timeout)
    earlier = [DEFAULT_SYSTEM_PROMPT] if data.history is None else data.history
    turns = [*earlier, UserMessage(content=data.prompt)]
    prompt = await call.rendered(chat_prompt(call.engine, turns))
    return JSONReply(prompt_reply(await call.complete(prompt, data), data))
