"""`POST /v1/completions`."""

from typing import cast

from litestar import post
from litestar.params import JSONBody

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.errors import InvalidRequest
from app.prompts import Prompt, text_prompt, token_prompt
from app.replies.completions import completion, completion_frames, merged_frames
from app.replies.envelope import new_envelope
from app.reply import JSONReply, Reply
from app.routes.openai.parameters import ignored_headers, refuse_unsupported
from app.routes.parameters import OPENAI_GENERATING, reply_of, schema_headers
from app.several import complete_all, stream_all
from app.sse import EventStream
from app.tools.structured import format_of
from schemas.completions import Completion, CompletionRequest


@post(
    "/completions",
    status_code=200,
    responses=reply_of(Completion) | OPENAI_GENERATING,
    opt=needs("completions"),
)
async def create_completion(data: JSONBody[CompletionRequest], request: JSONRequest) -> Reply:
    """OpenAI's text completion: each prompt continued as it stands."""
    call = Call(request)
    refuse_unsupported(data)
    if data.best_of not in (None, data.n or 1):
        raise InvalidRequest("best_of: only a value equal to n is supported.", param="best_of")
    envelope = new_envelope("cmpl", call.begin(data.model, data.timeout))
    prompts = await call.all_rendered([prompt_of(call, given) for given in prompts_of(data, call)])
    form = await call.admitted(lambda: format_of(data))
    headers = ignored_headers(data) | schema_headers(form)
    if data.stream and len(prompts) == 1:
        generation = await call.stream(prompts[0], data, form)
        frames = completion_frames(generation, call.tokens, envelope, data, call.record.write)
        return EventStream(frames, generation, headers)
    if data.stream:
        merged = await stream_all(call, prompts, data, form, deltas=True)
        frames = merged_frames(merged, call.tokens, envelope, data)
        return EventStream(frames, merged, headers)
    outputs = await complete_all(call, prompts, data, form)
    return JSONReply(completion(outputs, call.tokens, envelope, data), headers)


def prompt_of(call: Call, given: str | list[int]) -> Prompt:
    """Raises InvalidRequest and PromptTooLong."""
    if isinstance(given, str):
        return text_prompt(call.engine, given)
    vocabulary_size = call.engine.limits.vocabulary_size
    if max(given) >= vocabulary_size:
        raise InvalidRequest(
            f"prompt: token ids must be from 0 to {vocabulary_size - 1}.", param="prompt"
        )
    return token_prompt(call.engine, given)


def prompts_of(data: CompletionRequest, call: Call) -> list[str | list[int]]:
    """The prompts, of which a list of numbers is only one. Raises InvalidRequest."""
    if isinstance(data.prompt, str):
        return [data.prompt]
    kinds = {type(each) for each in data.prompt}
    if kinds == {int}:
        return [cast(list[int], data.prompt)]
    most = call.settings.max_batch_prompts
    if len(kinds) > 1 or len(data.prompt) > most:
        raise InvalidRequest(
            f"prompt: expected one kind of prompt and at most {most} of them.", param="prompt"
        )
    return cast(list[str | list[int]], data.prompt)
