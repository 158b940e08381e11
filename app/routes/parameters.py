"""Handler parameters and documentation that routes share."""

from typing import TypeAlias

import msgspec
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import SkipValidation

from app.call import Call

CallDependency: TypeAlias = NamedDependency[SkipValidation[Call]]


def reply_of(reply: type[msgspec.Struct]) -> dict[int, ResponseSpec]:
    """What the API document says a route answers; handlers return encoded bytes."""
    return {200: ResponseSpec(reply, generate_examples=False, description="The reply.")}
