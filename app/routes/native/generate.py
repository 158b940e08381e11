"""`POST /generate` and `POST /generate_with_function`."""

from litestar import post
from litestar.params import JSONBody

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.calling import Turns, complete_turns, rounds, verified_turns
from app.errors import InvalidRequest
from app.prompts import chat_prompt
from app.replies.native import assistant_reply, delta_frames, generate_reply
from app.replies.turns import function_reply
from app.reply import JSONReply, Reply
from app.routes.parameters import NATIVE_GENERATING, reply_of, schema_headers
from app.sse import EventStream
from app.tools.offer import make_offer
from schemas.generate import (
    AssistantReply,
    FunctionReply,
    FunctionRequest,
    GenerateReply,
    GenerateRequest,
)
from schemas.messages import Messages, UserMessage
from schemas.tools import FunctionDefinition


@post(
    "/generate",
    status_code=200,
    responses=reply_of(GenerateReply | AssistantReply) | NATIVE_GENERATING,
    opt=needs("completions"),
)
async def create_generation(data: JSONBody[GenerateRequest], request: JSONRequest) -> Reply:
    """Generate from a `prompt`, or the next turn of `messages`."""
    call = Call(request)
    model = call.begin(data.model, data.timeout)
    prompt = await call.rendered(chat_prompt(call.engine, messages_of(data)))
    if data.stream:
        generation = await call.stream(prompt, data)
        frames = delta_frames(generation, call.tokens, model, call.record.write)
        return EventStream(frames, generation)
    output = await call.complete(prompt, data)
    if data.prompt is None:
        return JSONReply(assistant_reply(output))
    return JSONReply(generate_reply(output, call.tokens, model))


def messages_of(data: GenerateRequest) -> Messages:
    """The conversation, of which a bare prompt is the first turn. Raises InvalidRequest."""
    if (data.prompt is None) == (data.messages is None):
        raise InvalidRequest("Send exactly one of prompt and messages.", param="prompt")
    return data.messages or [UserMessage(content=data.prompt or "")]


@post(
    "/generate_with_function",
    status_code=200,
    responses=reply_of(FunctionReply) | NATIVE_GENERATING,
    opt=needs("chat"),
)
async def create_function_call(data: JSONBody[FunctionRequest], request: JSONRequest) -> Reply:
    """Call one of the tools; the arguments satisfy its schema. With `run_tools` it runs here."""
    call = Call(request)
    call.begin(data.model, data.timeout)
    dialect, definitions = call.dialect, definitions_of(data, call)
    offer = await call.admitted(
        lambda: make_offer(definitions, "tools[{}]", dialect, required=True, single=True)
    )
    if data.run_tools:
        turns: Turns = rounds(call, data.messages, data, offer)
    else:
        prompt = chat_prompt(call.engine, data.messages, tools=definitions, dialect=dialect)
        turns = verified_turns(call, await call.rendered(prompt), data, offer)
    (draft,) = await complete_turns(call, turns, offer)
    return JSONReply(function_reply(draft), schema_headers(offer))


def definitions_of(data: FunctionRequest, call: Call) -> list[FunctionDefinition]:
    """The tools of a request, or of this server. Raises InvalidRequest."""
    if data.run_tools:
        return call.registry.among(data.tools or [])
    if not data.tools:
        raise InvalidRequest("tools: needed unless run_tools is true.", param="tools")
    return data.tools
