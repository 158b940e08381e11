"""`POST /tokenize` and `POST /detokenize`."""

from litestar import post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from app.auth import needs
from app.body import JSONRequest
from app.call import Call
from app.errors import InvalidRequest
from app.prompts import chat_prompt, run_sized, text_prompt
from app.reply import JSONReply, Reply
from app.routes.parameters import NATIVE_GENERATING, reply_of
from schemas.tokens import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest


@post(
    "/tokenize",
    status_code=200,
    responses=reply_of(TokenizeReply) | NATIVE_GENERATING,
    opt=needs("tokens"),
)
async def tokenize(data: JSONBody[TokenizeRequest], request: JSONRequest) -> Reply:
    """Token ids of a text, or of a conversation as the model would read it."""
    call = Call(request)
    call.choose_model(data.model)
    tokens = await tokens_of(data, call)
    tokenizer = call.engine.tokenizer
    strings: list[str] | UnsetType = UNSET
    if data.return_token_strs:
        strings = await run_sized(len(tokens), lambda: [tokenizer.decode([t]) for t in tokens])
    limit = call.engine.limits.max_model_len
    return JSONReply(
        TokenizeReply(count=len(tokens), max_model_len=limit, tokens=tokens, token_strs=strings)
    )


async def tokens_of(data: TokenizeRequest, call: Call) -> list[int]:
    if (data.prompt is None) == (data.messages is None):
        raise InvalidRequest("Send exactly one of prompt and messages.", param="prompt")
    if data.messages is not None:
        arguments = {"add_generation_prompt": data.add_generation_prompt}
        prompt = chat_prompt(call.engine, data.messages, template_arguments=arguments)
        return (await call.rendered(prompt)).token_ids
    special = data.add_special_tokens
    prompt = text_prompt(call.engine, data.prompt or "", add_special_tokens=special)
    return (await call.rendered(prompt)).token_ids


@post(
    "/detokenize",
    status_code=200,
    responses=reply_of(DetokenizeReply) | NATIVE_GENERATING,
    opt=needs("tokens"),
)
async def detokenize(data: JSONBody[DetokenizeRequest], request: JSONRequest) -> Reply:
    """The text of token ids."""
    call = Call(request)
    call.choose_model(data.model)
    size = call.engine.limits.vocabulary_size
    if any(token >= size for token in data.tokens):
        raise InvalidRequest(f"tokens: ids must be from 0 to {size - 1}.", param="tokens")
    tokenizer = call.engine.tokenizer
    text = await run_sized(len(data.tokens), lambda: tokenizer.decode(data.tokens))
    return JSONReply(DetokenizeReply(prompt=text))
