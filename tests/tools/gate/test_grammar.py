import json
import re
from itertools import product

import pytest
from outlines.types.dsl import to_regex

from app.tools.gate import grammar
from app.tools.gate.grammar import BOOLEAN, NULL, Member, Piece


def matches(piece: Piece, text: str) -> bool:
    return re.fullmatch(to_regex(piece.term), text) is not None


@pytest.mark.parametrize("required", list(product([False, True], repeat=4)))
def test_an_object_has_every_choice_of_its_optional_properties(required: tuple[bool, ...]) -> None:
    members = [Member(f"p{i}", NULL, each) for i, each in enumerate(required)]
    piece = grammar.object_of(members, least=0)

    for chosen in product([False, True], repeat=4):
        text = json.dumps({f"p{i}": None for i, each in enumerate(chosen) if each})
        allowed = all(there or not must for there, must in zip(chosen, required, strict=True))
        assert matches(piece, text) == allowed


def test_an_object_that_may_not_be_empty_is_not() -> None:
    piece = grammar.object_of([Member("a", NULL, False), Member("b", NULL, False)], least=1)

    assert not matches(piece, "{}")
    assert matches(piece, '{"b":null}')


def test_the_text_of_many_optional_properties_grows_little_faster_than_their_number() -> None:
    members = [Member(f"p{i:02}", NULL, False) for i in range(64)]

    small, large = (
        len(to_regex(grammar.object_of(each, 0).term)) for each in (members[:8], members)
    )

    assert large < 8 * 2.5 * small


@pytest.mark.parametrize(
    ("prefix", "rest", "least", "most"),
    [
        *((0, True, 0, None), (0, True, 2, 4), (0, True, 1, None), (0, True, 0, 0)),
        *((2, True, 1, 4), (2, False, 0, 2), (3, False, 2, 3), (2, True, 3, None)),
        *((1, True, 0, 1), (0, False, 0, 0)),
    ],
)
def test_an_array_has_between_the_least_and_the_most_items(
    prefix: int, rest: bool, least: int, most: int | None
) -> None:
    piece = grammar.array_of([BOOLEAN] * prefix, NULL if rest else None, least, most)

    for number in range(7):
        items = ["true"] * min(number, prefix) + ["null"] * (number - prefix)
        enough = number >= least and (most is None or number <= most)
        fits = rest or number <= prefix
        assert matches(piece, f"[{', '.join(items)}]") == (enough and fits)
        assert matches(piece, f"[{','.join(items)}]") == (enough and fits)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -3, 1.5, 1e300, "", 'a"b\\c\n\x01\x7f', "日本😀", [], {}, [1, [2, {"a": "b"}]]],
)
def test_a_literal_is_its_value_however_it_is_spaced(value: object) -> None:
    piece = grammar.json_literal(value)

    for separators in ((", ", ": "), (",", ":")):
        text = json.dumps(value, ensure_ascii=False, separators=separators)
        assert matches(piece, text.replace("\x7f", "\\u007f"))
    assert not matches(piece, '"x"')


def test_any_value_is_limited_in_depth() -> None:
    piece = grammar.any_value(2)

    assert matches(piece, '{"a": [1, {}], "b": null}'.replace("{}", "2"))
    assert not matches(piece, "[[[1]]]")
    assert not matches(piece, "[1,]")
    assert not matches(piece, '{"a": 01}')


def test_what_texts_have_in_common_costs_once() -> None:
    assert grammar.one_of(["same beginning 1", "same beginning 2"]).cost == 17
