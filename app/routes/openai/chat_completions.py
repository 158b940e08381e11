"""`POST /v1/chat/completions`."""

from litestar import post
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse

from app.call import json_reply
from app.engine.base import Constraint
from app.errors import InvalidRequest
from app.prompts import chat_prompt, rendered
from app.replies.chat_completions import chat_completion, chat_frames
from app.replies.envelope import new_envelope
from app.routes.openai.parameters import ignored_headers, refuse_unsupported
from app.routes.parameters import CallDependency, reply_of
from app.sse import EventStream
from app.tools.calls import constrain_schema
from schemas.chat_completions import (
    ChatCompletion,
    ChatCompletionRequest,
    JSONObjectFormat,
    JSONSchemaFormat,
    ResponseFormat,
)

REASONING_EFFORT = "reasoning_effort"


@post("/chat/completions", status_code=200, responses=reply_of(ChatCompletion))
async def create_chat_completion(
    data: JSONBody[ChatCompletionRequest], call: CallDependency
) -> ASGIResponse:
    """OpenAI's chat: the next turn of a conversation, whole or as a stream of chunks."""
    refuse_unsupported(data)
    envelope = new_envelope("chatcmpl", call.choose_model(data.model))
    template, headers = template_arguments(data, call.engine.tokenizer.chat_template)
    constraint = constraint_of(data.response_format)
    turns = chat_prompt(call.engine, data.messages, template_arguments=template)
    prompt = await rendered(turns)
    if data.stream:
        generation = await call.stream(prompt, data, constraint)
        frames = chat_frames(generation, call.tokens, envelope, data)
        return EventStream(frames, generation, headers)
    output = await call.complete(prompt, data, constraint)
    return json_reply(chat_completion(output, call.tokens, envelope, data), headers)


def template_arguments(
    data: ChatCompletionRequest, chat_template: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """What goes to the chat template, and the header that names what has no effect.

    Only templates of reasoning models know `reasoning_effort`.
    """
    if data.reasoning_effort is None:
        return {}, ignored_headers(data)
    if chat_template is not None and REASONING_EFFORT in chat_template:
        return {REASONING_EFFORT: data.reasoning_effort}, ignored_headers(data)
    return {}, ignored_headers(data, REASONING_EFFORT)


def constraint_of(response_format: ResponseFormat | None) -> Constraint | None:
    """Raises InvalidRequest for a schema that cannot be guaranteed."""
    if isinstance(response_format, JSONSchemaFormat):
        return constrain_schema(response_format.json_schema.schema, "response_format")
    if isinstance(response_format, JSONObjectFormat):
        raise InvalidRequest(
            "response_format: json_object says nothing that could be enforced; send a json_schema.",
            param="response_format",
        )
    return None
