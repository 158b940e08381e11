from typing import Any

import msgspec
import pytest

from app.errors import InvalidRequest
from app.tools.chosen import chat_offer
from app.tools.dialects import DIALECTS, HERMES, Dialect, Thinking
from app.tools.gate.admitted import SchemaViolation, admit, admit_pattern
from app.tools.offer import Offer, make_offer, schema_of
from app.tools.parts import Called
from app.tools.structured import Format
from schemas.chat_completions import ChatCompletionRequest
from schemas.tools import FunctionDefinition
from tests.constraint_walk import accepts, check
from tests.tools.test_turn import written

WEATHER = FunctionDefinition(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = FunctionDefinition(name="get_time")
PARIS = ("get_weather", '{"city": "Paris"}')
NOW = ("get_time", "{}")


def offer(dialect: Dialect = HERMES, **fields: Any) -> Offer:
    fields = {"required": False, "single": False} | fields
    return make_offer([WEATHER, CLOCK], "tools[{}].function", dialect, **fields)


@pytest.fixture(params=DIALECTS.values(), ids=list(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return request.param


def test_auto_is_text_or_known_calls(dialect: Dialect) -> None:
    constraint = offer(dialect).constraint("none")
    check(constraint)

    assert accepts(constraint, "")
    assert accepts(constraint, "It is sunny.")
    assert accepts(constraint, written(dialect, [PARIS]))
    assert accepts(
        constraint, "Let me look." + dialect.lead + written(dialect, [PARIS, NOW, PARIS])
    )
    assert not accepts(constraint, "Hm. " + written(dialect, [("get_tide", "{}")]))
    assert not accepts(constraint, written(dialect, [("get_weather", '{"city": 5}')]))
    assert not accepts(constraint, written(dialect, [PARIS]) + " and more")
    assert not accepts(constraint, written(dialect, [PARIS])[:-1]) or dialect.last


def test_required_is_calls_and_nothing_else(dialect: Dialect) -> None:
    constraint = offer(dialect, required=True).constraint("none")
    check(constraint)

    assert accepts(constraint, written(dialect, [NOW]))
    assert accepts(constraint, written(dialect, [NOW, PARIS]))
    assert not accepts(constraint, "")
    assert not accepts(constraint, "Hm." + written(dialect, [NOW]))


@pytest.mark.parametrize("required", [False, True])
def test_single_is_at_most_one_call(dialect: Dialect, required: bool) -> None:
    constraint = offer(dialect, required=required, single=True).constraint("none")
    check(constraint)

    assert accepts(constraint, written(dialect, [PARIS]))
    assert not accepts(constraint, written(dialect, [PARIS, NOW]))


def test_allowed_tools_are_all_that_can_be_called(dialect: Dialect) -> None:
    some = offer(dialect, allowed=["get_time"], required=True)

    assert [each.name for each in some.definitions] == ["get_weather", "get_time"]
    assert accepts(some.constraint("none"), written(dialect, [NOW]))
    assert not accepts(some.constraint("none"), written(dialect, [PARIS]))


@pytest.mark.parametrize("is_first", [False, True])
def test_a_retry_begins_at_the_name(dialect: Dialect, is_first: bool) -> None:
    constraint = offer(dialect).constraint_from_name(is_first=is_first)
    check(constraint)
    text = written(dialect, [NOW, PARIS])
    start = (
        text.index(dialect.opening + "get_time")
        if is_first
        else text.rindex(dialect.reopening + "get_weather")
    )

    assert accepts(constraint, text[start:])
    assert not accepts(constraint, text)


THOUGHT = "I might <tool_call> something.\n</think>"


@pytest.mark.parametrize("thinking", ["inside", "first", "perhaps"])
@pytest.mark.parametrize("required", [False, True])
def test_calls_come_after_thinking(dialect: Dialect, thinking: Thinking, required: bool) -> None:
    constraint = offer(dialect, required=required).constraint(thinking)
    check(constraint)
    thought = THOUGHT if thinking == "inside" else f"<think>{THOUGHT}"

    for gap in ("", "\n", "\n\n"):
        if required or thinking != "perhaps" or dialect.begin != "<tool_call>":
            assert accepts(constraint, thought + gap + written(dialect, [PARIS, NOW]))
        assert accepts(constraint, thought + gap + "Sunny.") is (
            not required and (thinking != "perhaps" or dialect.begin != "<tool_call>")
        )
    assert accepts(constraint, written(dialect, [NOW])) is (thinking == "perhaps")


@pytest.mark.parametrize("thinking", ["none", "inside", "first"])
@pytest.mark.parametrize(
    "form",
    [
        Format(param="p", schema=admit(WEATHER.parameters, "p")),
        Format(param="p", pattern=admit_pattern(r"\{.*\}", "p")),
        Format(param="p", texts=('{"city": "a"}', '{"city": "ab"}', '{"city": "a"}!')),
    ],
    ids=["schema", "pattern", "texts"],
)
def test_a_form_comes_after_thinking(thinking: Thinking, form: Format) -> None:
    form = form.after(thinking)
    check(form.constraint)
    thought = {"none": "", "inside": THOUGHT, "first": f"<think>{THOUGHT}"}[thinking]
    gaps = ("", "\n", "\n\n") if thought else ("",)

    for gap in gaps:
        text = thought + gap + '{"city": "a"}'
        assert accepts(form.constraint, text)
        form.verify(text)
    assert not accepts(form.constraint, thought + "nothing")
    assert not accepts(form.constraint, thought)


def test_a_form_is_verified() -> None:
    form = Format(param="p", schema=admit(WEATHER.parameters, "p")).after("inside")

    with pytest.raises(SchemaViolation):
        form.verify('Hm.</think>\n{"city": 5}')
    with pytest.raises(SchemaViolation):
        Format(param="p", texts=("a", "b")).verify("c")
    with pytest.raises(SchemaViolation):
        Format(param="p", pattern=admit_pattern("[a-c]+", "p")).verify("abd")


def test_line_ends_behind_thinking_may_belong_to_the_form() -> None:
    form = Format(param="p", pattern=admit_pattern(r"\na", "p")).after("inside")

    for text in ("\na", "\n\na", "\n\n\na"):
        form.verify(f"Hm.</think>{text}")
    with pytest.raises(SchemaViolation):
        form.verify("Hm.</think>a")


def test_calls_are_verified() -> None:
    offer().verify(Called(*PARIS))
    for arguments in ('{"city": 5}', "{}", '{"city": "a}', "[]"):
        with pytest.raises(SchemaViolation):
            offer().verify(Called("get_weather", arguments))


def request(**fields: Any) -> ChatCompletionRequest:

    return msgspec.convert(
        {"messages": [{"role": "user", "content": "a"}], **fields}, ChatCompletionRequest
    )


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "g"}}


def allowed(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("fields", "names", "required", "single"),
    [
        ({}, "fg", False, False),
        ({"tool_choice": "auto"}, "fg", False, False),
        ({"tool_choice": "required"}, "fg", True, False),
        ({"tool_choice": "required", "parallel_tool_calls": False}, "fg", True, True),
        ({"parallel_tool_calls": True}, "fg", False, False),
        ({"tool_choice": NAMED}, "g", True, True),
        ({"tool_choice": allowed("auto")}, "g", False, False),
        ({"tool_choice": allowed("required")}, "g", True, False),
    ],
)
def test_every_choice_of_tools(
    fields: dict[str, Any], names: str, required: bool, single: bool
) -> None:
    made = chat_offer(request(tools=TOOLS, **fields), HERMES)

    assert made is not None
    assert "".join(made.callables) == names
    assert (made.required, made.single, made.legacy) == (required, single, False)
    assert [each.name for each in made.definitions] == ["f", "g"]


@pytest.mark.parametrize(
    ("choice", "names", "required"),
    [(None, "fg", False), ("auto", "fg", False), ({"name": "g"}, "g", True)],
)
def test_every_choice_of_functions(choice: Any, names: str, required: bool) -> None:
    functions = [tool["function"] for tool in TOOLS]
    made = chat_offer(request(functions=functions, function_call=choice), HERMES)

    assert made is not None
    assert "".join(made.callables) == names
    assert (made.required, made.single, made.legacy) == (required, True, True)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [], "tool_choice": "auto"},
        {"tool_choice": "none", "function_call": "auto"},
    ],
)
def test_no_offer_where_there_are_no_tools(fields: dict[str, Any]) -> None:
    assert chat_offer(request(**fields), HERMES) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS, "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
    ],
)
def test_where_nothing_may_be_called_the_mark_of_a_call_never_comes(
    dialect: Dialect, fields: dict[str, Any]
) -> None:
    made = chat_offer(request(**fields), dialect)
    assert made is not None
    constraint = made.constraint("none")
    check(constraint)

    assert (made.definitions, made.callables) == ((), {})
    assert accepts(constraint, "It is sunny.")
    assert not accepts(constraint, f"Hm.{dialect.begin}")
    assert not accepts(constraint, written(dialect, [("f", "{}")]))


@pytest.mark.parametrize("parameters", [None, {}])
def test_a_function_without_parameters_takes_no_arguments(parameters: Any) -> None:
    bare = FunctionDefinition(name="f", parameters=parameters)
    made = make_offer([bare], "tools[{}].function", HERMES, required=True, single=True)

    made.verify(Called("f", "{}"))
    with pytest.raises(SchemaViolation):
        made.verify(Called("f", '{"a": 1}'))


@pytest.mark.parametrize("kind", [None, "dict", "any", ["object", "null"]])
def test_arguments_are_an_object(kind: Any) -> None:
    typed = {} if kind is None else {"type": kind}
    schema = schema_of(FunctionDefinition(name="f", parameters={"properties": {}, **typed}), "p")

    assert schema == {"properties": {}, "type": "dict" if kind == "dict" else "object"}


@pytest.mark.parametrize("kind", ["object", ["object", "null"], None])
def test_arguments_are_not_null_where_a_schema_allows_it(kind: Any) -> None:
    typed = {} if kind is None else {"type": kind}
    nullable = FunctionDefinition(name="f", parameters={"nullable": True, **typed})
    made = make_offer([nullable], "tools[{}].function", HERMES, required=True, single=True)
    constraint = made.constraint("none")

    assert accepts(constraint, written(HERMES, [("f", "{}")]))
    assert not accepts(constraint, written(HERMES, [("f", "null")]))


def test_all_schemas_of_a_request_have_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [each.schema.cost for each in offer().callables.values()]
    monkeypatch.setattr("app.tools.offer.MAX_REQUEST_COST", sum(costs))
    offer()
    monkeypatch.setattr("app.tools.offer.MAX_REQUEST_COST", sum(costs) - 0.5)

    with pytest.raises(InvalidRequest, match="together are too complex") as error:
        offer()
    assert (error.value.param, error.value.code) == ("tools", "schema_too_complex")
    offer(allowed=["get_time"])


@pytest.mark.parametrize("kind", ["string", "null", ["array"], "stsring", 5])
def test_arguments_that_are_no_object_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="must be its type") as error:
        schema_of(FunctionDefinition(name="f", parameters={"type": kind}), "p")
    assert error.value.code == "unsupported_schema"


def test_a_schema_that_is_not_a_good_one_is_refused_by_its_place() -> None:
    bad = FunctionDefinition(name="f", parameters={"type": "object", "properties": {"a": 5}})

    with pytest.raises(InvalidRequest) as error:
        make_offer([CLOCK, bad], "tools[{}].function", HERMES, required=True, single=True)
    assert error.value.param == "tools[1].function.parameters"
