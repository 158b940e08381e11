"""Row C1: numbers. The fields and their ranges are read off the structs that requests become."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import inspect

from app.openapi import subclasses
from schemas.base import RequestStruct
from tests.scorecard.refusals import JSON, PATHS, asked, assert_refused, idle_engine
from tests.scorecard.target import Target

Number = inspect.IntType | inspect.FloatType
Place = Callable[[Any], Any]


@pytest.fixture
def client(target: Target) -> Iterator[httpx.Client]:
    with idle_engine(target) as client:
        yield client


def numbers(struct: type[RequestStruct]) -> Iterator[tuple[str, Number, Place]]:
    """Each field that holds numbers, what these may be, and how one is sent.

    But for `prompt`, where text is as welcome as a list of numbers.
    """
    for field in fields(struct):
        if field.name != "prompt":
            for kind, place in leaves(field.type):
                yield field.name, kind, place


def fields(struct: type[RequestStruct]) -> tuple[inspect.Field, ...]:
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    return kind.fields


def leaves(
    kind: inspect.Type, place: Place = lambda value: value
) -> Iterator[tuple[Number, Place]]:
    """Numbers in a field: itself, one of a union, in a list or a map."""
    match kind:
        case inspect.Metadata():
            yield from leaves(kind.type, place)
        case inspect.UnionType():
            for each in kind.types:
                yield from leaves(each, place)
        case inspect.IntType() | inspect.FloatType():
            yield kind, place
        case inspect.ListType():
            yield from leaves(kind.item_type, lambda value: place([value]))
        case inspect.DictType():
            yield from leaves(kind.value_type, lambda value: place({"7": value}))


def ends(kind: Number) -> tuple[float, float]:
    """The range of a number. Raises AssertionError if it has none."""
    lowest = kind.ge if kind.ge is not None else kind.gt
    highest = kind.le if kind.le is not None else kind.lt
    assert lowest is not None
    assert highest is not None
    return lowest, highest


def outside(kind: Number) -> list[bytes]:
    """JSON of values beyond each end of a number's range, near and far, and of what is none."""
    lowest, highest = ends(kind)
    step = 1 if isinstance(kind, inspect.IntType) else 0.5
    near = [lowest - step, highest + step, *([lowest] if kind.gt is not None else [])]
    far = [value for value in (-(2**63), 2**64) if not lowest <= value <= highest]
    return [*(str(value).encode() for value in [*near, *far]), b'"1"', b"true", b"[]"]


@PATHS
def test_c1_numbers_out_of_range_or_of_another_kind_are_refused_by_name(
    client: httpx.Client, target: Target, path: str
) -> None:
    struct, body = asked(target, path)
    for name, kind, place in numbers(struct):
        for value in outside(kind):
            content = msgspec.json.encode({**body, name: place(msgspec.Raw(value))})
            assert_refused(client.post(path, content=content, headers=JSON), name)


@PATHS
def test_c1_what_is_no_number_of_json_is_refused(
    client: httpx.Client, target: Target, path: str
) -> None:
    """It is named by its place in the text: no field can be told in what is not JSON."""
    struct, body = asked(target, path)
    for name, _, place in numbers(struct):
        for value in (b"NaN", b"-Infinity", b"1e999", b"0x10", b"9" * 5000):
            content = msgspec.json.encode({**body, name: place(msgspec.Raw(value))})
            assert_refused(client.post(path, content=content, headers=JSON))


def test_c1_every_number_has_a_range() -> None:
    """Also those that no route above shows at its first level."""
    found = 0
    for struct in subclasses(RequestStruct):
        for field in fields(struct):
            for kind, _ in leaves(field.type):
                assert len(ends(kind)) == 2, f"{struct.__name__}.{field.name}"
                found += 1
    assert found > 50
