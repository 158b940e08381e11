"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator

import msgspec
from litestar import post
from litestar.params import JSONBody

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.calling import Turns, begin_turns, complete_turns, rounds, verified_turns
from app.engine.base import Output, RenderedPrompt
from app.errors import InvalidRequest
from app.prompts import chat_prompt
from app.replies.chat_completions import chat_completion, chat_frames
from app.replies.envelope import Envelope, new_envelope
from app.replies.turns import (
    Style,
    drafts,
    split_outputs,
    style_of,
    turn_frames,
    turns_completion,
)
from app.reply import JSONReply, Reply
from app.routes.openai.parameters import ignored_headers, refuse_unsupported
from app.routes.parameters import OPENAI_GENERATING, reply_of, schema_headers
from app.sse import EventStream
from app.tools.chosen import chat_offer
from app.tools.offer import Offer
from app.tools.structured import Format, format_of
from schemas.chat_completions import ChatCompletion, ChatCompletionRequest
from schemas.tools import FunctionTool

REASONING_EFFORT = "reasoning_effort"


@post(
    "/chat/completions",
    status_code=200,
    responses=reply_of(ChatCompletion) | OPENAI_GENERATING,
    opt=needs("chat"),
)
async def create_chat_completion(
    data: JSONBody[ChatCompletionRequest], request: JSONRequest
) -> Reply:
    """OpenAI's chat: the next turn of a conversation, whole or as a stream of chunks."""
    call = Call(request)
    refuse_unsupported(data)
    envelope = new_envelope("chatcmpl", call.begin(data.model, data.timeout))
    template, headers = template_arguments(data, call.engine.tokenizer.chat_template)
    data = with_registered(data, call)
    asked = await asked_of(data, call)
    headers |= schema_headers(asked)
    if data.run_tools:
        return await answer_with_tools_run(data, call, template, envelope, headers, asked)
    turns = chat_prompt(
        call.engine,
        data.messages,
        tools=asked.definitions if isinstance(asked, Offer) else (),
        dialect=call.dialect,
        template_arguments=template,
    )
    prompt = await call.rendered(turns)
    if isinstance(asked, Offer):
        return await answer_with_calls(data, call, prompt, envelope, headers, asked)
    return await answer_with_text(data, call, prompt, envelope, headers, asked)


async def asked_of(data: ChatCompletionRequest, call: Call) -> Offer | Format | None:
    """The tools or the form of the reply; None for free text.

    Raises InvalidRequest for both if a tool may be called: text beside calls would have to be of
    that form.
    """
    dialect = call.dialect
    if not (data.tools or data.functions or data.response_format or data.structured_outputs):
        return chat_offer(data, dialect)
    offer = await call.admitted(lambda: chat_offer(data, dialect))
    form = await call.admitted(lambda: format_of(data))
    if offer is not None and offer.callables and form is not None:
        field = form.param.partition(".")[0]
        raise InvalidRequest(
            f"{field}: not together with tools that may be called; set tool_choice to none.",
            param=field,
        )
    return form or offer


async def answer_with_text(
    data: ChatCompletionRequest,
    call: Call,
    prompt: RenderedPrompt,
    envelope: Envelope,
    headers: dict[str, str],
    form: Format | None,
) -> Reply:
    """A reply of text, free or of a form; only the latter is told apart from its thinking."""
    form = form and form.after(call.thinking(prompt))
    if form is not None and form.thinking != "none":
        return await answer_with_thoughts(data, call, prompt, envelope, headers, form)
    if data.stream:
        generation = await call.stream(prompt, data, form)
        frames = chat_frames(generation, call.tokens, envelope, data, call.record.write)
        return EventStream(frames, generation, headers)
    output = await call.complete(prompt, data, form)
    return JSONReply(chat_completion(output, call.tokens, envelope, data), headers)


async def answer_with_thoughts(
    data: ChatCompletionRequest,
    call: Call,
    prompt: RenderedPrompt,
    envelope: Envelope,
    headers: dict[str, str],
    form: Format,
) -> Reply:
    if data.stream:
        generation = await call.stream(prompt, data, form)
        pieces = split_outputs(generation, form.thinking, call.tokens)
        frames = turn_frames(pieces, call.tokens, envelope, data, Style())
        return EventStream(frames, generation, headers)
    output = await call.complete(prompt, data, form)
    pieces = split_outputs(single(output), form.thinking)
    choices = await drafts(pieces, Style(), data.n or 1, data.top_logprobs or 0)
    return JSONReply(turns_completion(choices, call.tokens, envelope), headers)


async def answer_with_calls(
    data: ChatCompletionRequest,
    call: Call,
    prompt: RenderedPrompt,
    envelope: Envelope,
    headers: dict[str, str],
    offer: Offer,
) -> Reply:
    """A reply that may call tools."""
    delivery = data.tool_call_delivery or call.settings.tool_call_delivery
    stream = bool(data.stream)
    grows = stream and delivery == "incremental"
    turns = verified_turns(call, prompt, data, offer, stream=stream, grows=grows)
    return await answer_with_turns(data, call, turns, envelope, headers, offer)


async def answer_with_tools_run(
    data: ChatCompletionRequest,
    call: Call,
    template: dict[str, str],
    envelope: Envelope,
    headers: dict[str, str],
    asked: Offer | Format | None,
) -> Reply:
    """A reply for which tools run here, where they are registered. Raises InvalidRequest."""
    if not isinstance(asked, Offer) or not asked.callables or asked.legacy or (data.n or 1) > 1:
        raise InvalidRequest(
            "run_tools: needs tools that may be called, and n to be 1.", param="run_tools"
        )
    stream = bool(data.stream)
    turns = rounds(call, data.messages, data, asked, template_arguments=template, stream=stream)
    return await answer_with_turns(data, call, turns, envelope, headers, asked)


async def answer_with_turns(
    data: ChatCompletionRequest,
    call: Call,
    turns: Turns,
    envelope: Envelope,
    headers: dict[str, str],
    offer: Offer,
) -> Reply:
    if data.stream:
        await begin_turns(call, turns)
        frames = turn_frames(turns.pieces(), call.tokens, envelope, data, style_of(offer))
        return EventStream(frames, turns, headers)
    choices = await complete_turns(call, turns, offer, data.n or 1, data.top_logprobs or 0)
    return JSONReply(turns_completion(choices, call.tokens, envelope), headers)


def with_registered(data: ChatCompletionRequest, call: Call) -> ChatCompletionRequest:
    """The request with the server's own tools in it, if they are to run. Raises InvalidRequest."""
    if not data.run_tools:
        return data
    definitions = [tool.function for tool in data.tools or ()]
    tools = [FunctionTool(function=each) for each in call.registry.among(definitions)]
    return msgspec.structs.replace(data, tools=tools)


async def single(output: Output) -> AsyncIterator[Output]:
    yield output


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
