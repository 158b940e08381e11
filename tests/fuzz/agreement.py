"""What schemathesis cannot know of this server; loaded by it as its module of hooks.

Valid bodies are made to reach the engine: they name a served model, tokens of its vocabulary and
pictures that can be decoded. Refusing a body that its schema allows is a failure of the document
only if the schema could have said so, which is where the decoder itself refuses.
"""

from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.modes import GenerationMode
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData

import app.routes  # noqa: F401 - the structs of all routes are known once these are
from app.body import decode_body
from app.errors import InvalidRequest
from app.openapi import SCHEMAS, subclasses
from schemas.base import RequestStruct
from tests.images.pictures import data_url, plain

PICTURE = data_url(plain())
VOCABULARY_SIZE = 256
STRUCTS = {struct.__name__: struct for struct in subclasses(RequestStruct)}


@schemathesis.hook
def before_call(_: HookContext, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Makes a valid body one that could be answered."""
    if is_valid(case) and isinstance(case.body, dict):
        case.body = answerable(case.body)


@schemathesis.hook
def filter_failure(
    _: HookContext, failure: Failure, case: schemathesis.Case, response: Response
) -> bool:
    """Drops refusals of what no schema can say, such as that two fields exclude each other."""
    return not (isinstance(failure, RejectedPositiveData) and is_decodable(case, response))


def is_valid(case: schemathesis.Case) -> bool:
    return case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE


def answerable(value: Any, name: str = "") -> Any:
    """The same without what only this server's model can refuse."""
    if isinstance(value, dict):
        return {
            key if name != "logit_bias" else "7": answerable(each, key)
            for key, each in value.items()
            if key not in ("model", "run_tools")
        }
    if isinstance(value, list):
        return [answerable(each, name) for each in value]
    if name in ("stop_token_ids", "tokens", "prompt") and isinstance(value, int | float):
        return int(value) % VOCABULARY_SIZE
    if name == "url":
        return PICTURE
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_decodable(case: schemathesis.Case, response: Response) -> bool:
    """Whether the decoder takes the body, so that what refused it is behind the decoder."""
    asked = case.operation.definition.raw.get("requestBody")
    if asked is None:  # a time that is past, for instance, is more than the document can ask for
        return True
    (content,) = asked["content"].values()
    struct = STRUCTS.get(content["schema"].get("$ref", "").removeprefix(SCHEMAS))
    if struct is None:  # another server's, whose decoder is not here to be asked
        return True
    body = response.request.body
    try:
        decode_body(body if isinstance(body, bytes) else str(body).encode(), struct)
    except InvalidRequest:
        return False
    return True
