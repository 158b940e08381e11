"""The OpenAPI document: which routes there are says Litestar, what goes over the wire msgspec.

Litestar's own schemas of structs lose limits that msgspec checks.
"""

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, OpenAPI, SecurityScheme

from schemas.base import ReplyStruct, RequestStruct
from schemas.batch import BatchEnd, BatchResult
from schemas.chat import Delta, StreamEnd
from schemas.chat_completions import ChatCompletionChunk
from schemas.completions import Completion
from schemas.errors import ErrorReply

SCHEMAS = "#/components/schemas/"
KEY = SecurityScheme(type="http", scheme="bearer", description="Needed where keys are set.")
EVENTS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "BatchRequest": (BatchResult, BatchEnd),
    "ChatRequest": (Delta, StreamEnd),
    "GenerateRequest": (Delta, StreamEnd),
    "ChatCompletionRequest": (ChatCompletionChunk,),
    "CompletionRequest": (Completion,),
}
"""What the events of a streamed reply hold, by the request's struct."""


class Document(OpenAPI):
    """The OpenAPI document: Litestar's routes and msgspec's schemas."""

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        document["components"]["schemas"] = wire_schemas()
        for operation in operations(document):
            correct(operation)
        return document


class DocumentConfig(OpenAPIConfig):
    """Makes that document; a key is asked for where keys are set."""

    def to_openapi_schema(self) -> OpenAPI:
        document = Document(**vars(super().to_openapi_schema()))
        document.components = Components(security_schemes={"key": KEY})
        document.security = [{}, {"key": []}]
        return document


def wire_schemas() -> dict[str, Any]:
    """JSON schemas of all structs in `schemas`, under their names."""
    structs = [*subclasses(RequestStruct), *subclasses(ReplyStruct)]
    _, schemas = msgspec.json.schema_components(structs, ref_template=SCHEMAS + "{name}")
    told_apart = set(discriminated(schemas))
    for struct in structs:
        schema = schemas[struct.__name__]
        schema["description"] = cleandoc(schema["description"])
        if issubclass(struct, RequestStruct) and struct.__name__ not in told_apart:
            # msgspec asks for a tag only where it has to tell structs apart.
            schema["required"] = [name for name in schema["required"] if name != tag_field(struct)]
    return schemas


def discriminated(schema: Any) -> Iterator[str]:
    """Names of structs that are told apart by their tags, anywhere in a schema."""
    if isinstance(schema, dict):
        mapping = schema.get("discriminator", {}).get("mapping", {})
        yield from (reference.removeprefix(SCHEMAS) for reference in mapping.values())
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            yield from discriminated(each)


def tag_field(struct: type[msgspec.Struct]) -> str | None:
    return struct.__struct_config__.tag_field


def subclasses(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in base.__subclasses__():
        if each.__module__.startswith("schemas."):
            yield each
            yield from subclasses(each)


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from (each for each in path.values() if isinstance(each, dict))


def correct(operation: dict[str, Any]) -> None:
    """Drop the error that Litestar assumes, and add the events of routes that stream."""
    responses = operation["responses"]
    if "$ref" not in str(responses.get("400", "$ref")):
        del responses["400"]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        struct = content["schema"]["$ref"].removeprefix(SCHEMAS)
        if struct in EVENTS:
            responses["200"]["content"]["text/event-stream"] = {"schema": event(EVENTS[struct])}


def event(structs: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    """JSON schema of one server-sent event; before 3.2, OpenAPI has no other word for these."""
    names = [struct.__name__ for struct in structs] + [ErrorReply.__name__]
    contents = {"anyOf": [{"$ref": SCHEMAS + name} for name in names]}
    reply = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": contents,
    }
    data = {
        "description": "With `stream`. `[DONE]` comes last; behind an error nothing comes.",
        "anyOf": [reply, {"const": "[DONE]"}],
    }
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}
