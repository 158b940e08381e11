import json
import random
import re
import time

import pytest
from outlines.types.dsl import to_regex

from app.errors import InvalidRequest
from app.tools.gate.admitted import SchemaViolation, admit, admit_pattern
from app.tools.gate.cost import BUDGET
from app.tools.gate.strings import FORMATS, Lengths, Untranslatable, string_matching
from tests.tools.gate.walking import walk

PATTERNS = {
    "abc": (["abc", "xabcx", 'a"abc'], ["ab", "ABC", ""]),
    "^abc$": (["abc"], ["xabc", "abcx", "abc\n"]),
    "^a|b$": (["a", "ax", "b", "xb"], ["xa", "bx", ""]),
    "^(a|b)$": (["a", "b"], ["ax", "xb", "c"]),
    "^(?:^a$|b+)$": (["a", "bb"], ["ab"]),
    "^.$": (["a", '"', "\\", "é", "😀", "\t"], ["", "ab", "\n"]),
    r"^[^x]+$": (['say "hi"\n', "日本"], ["x", ""]),
    r"^\d{3}-\d{4}$": (["555-1234"], ["5551234", "٣٣٣-٣٣٣٣"]),
    r"^\w+\s\w+$": (["a b", "a\tb"], ["ab", "a  b"]),
    r"^\S+@\S+\.\S+$": (["a@b.c"], ["a b@c.d"]),
    r"^[\w.\-\/]+$": (["a/b-c.d"], ["a b", ""]),
    r"^(?<year>[0-9]{4})$": (["2024"], ["24"]),
    r"^[\"\\]+$": (['"\\"'], ["a"]),
    "^[a-z]*?$": (["", "abc"], ["A"]),
    "^$": ([""], ["a"]),
    "": (["", "anything"], []),
    r"\w{2,50}": (["ab", "--abc--"], ["a", "-a-"]),
    r"^[^\d]$": (["a"], ["1"]),
}


@pytest.mark.parametrize("regex", PATTERNS)
def test_a_pattern_is_enforced_on_the_value_of_the_string(regex: str) -> None:
    admitted = admit({"type": "string", "pattern": regex}, "s")
    matching, others = PATTERNS[regex]
    pattern = re.compile(admitted.pattern)

    assert admitted.checked == ()
    for text in matching:
        assert pattern.fullmatch(json.dumps(text, ensure_ascii=False)), text
        admitted.verify(json.dumps(text))
    assert not [each for each in others if pattern.fullmatch(json.dumps(each, ensure_ascii=False))]


@pytest.mark.parametrize("regex", [r"\bword", "a^b", r"\p{L}+", "(?i)abc", r"\cA|b"])
def test_what_only_the_validator_can_tell_is_checked_after(regex: str) -> None:
    admitted = admit({"type": "string", "pattern": regex}, "s")

    assert admitted.checked == ("/pattern",)


@pytest.mark.parametrize("regex", ["(?=a)b", "(?<!a)b", r"(a)\1", "[", "a{3,2}", r"^\x01$"])
def test_what_nobody_can_enforce_is_refused(regex: str) -> None:
    with pytest.raises(InvalidRequest, match="at /pattern") as refusal:
        admit({"type": "string", "pattern": regex}, "s")

    assert refusal.value.code == "unsupported_schema"


BOMBS = [
    "(a|b)*a(a|b){24}",
    "(a|b)*a(a|b){14}",
    ".{0,1000000}",
    "([a-z]{0,1000}){0,1000}",
    "((((((((a{10}){10}){10}){10}){10}){10}){10}){10})",
    "(.{0,30}x){0,30}",
    "(x|y|xy){0,40}[xy]{1,40}.{200}",
    "a" * 5000,
]


@pytest.mark.parametrize("regex", BOMBS)
def test_a_bomb_is_refused_before_a_pattern_is_built(regex: str) -> None:
    for call in (
        lambda: admit({"type": "string", "pattern": f"-{regex}-"}, "s"),
        lambda: admit({"type": "string", "pattern": f"^{regex}$"}, "s"),
        lambda: admit_pattern(regex, "s"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            call()
        assert refusal.value.code == "schema_too_complex"


@pytest.mark.parametrize("regex", ["(x*)*y", "(a+)+b", "(a|a)*b", "(.*a){12}", "()*x"])
def test_what_only_frightens_a_backtracking_engine_is_admitted(regex: str) -> None:
    assert admit_pattern(regex, "s").pattern
    assert admit({"type": "string", "pattern": regex}, "s").pattern


def test_many_expressions_have_one_limit_together() -> None:
    properties = {f"p{i}": {"type": "string", "pattern": f"[ab]*a[ab]{{6}}{i}"} for i in range(60)}

    with pytest.raises(InvalidRequest) as refusal:
        admit({"type": "object", "properties": properties}, "s")

    assert refusal.value.code == "schema_too_complex"


def test_lengths_are_enforced_where_one_class_is_repeated() -> None:
    simple = string_matching("^[a-z]+$", Lengths(3, 5))
    other = string_matching("^[a-z]+-[a-z]+$", Lengths(3, 5))
    pattern = re.compile(to_regex(simple.piece.term))

    assert simple.exact
    assert [n for n in range(9) if pattern.fullmatch(f'"{"a" * n}"')] == [3, 4, 5]
    assert not other.exact


def test_a_length_that_the_pattern_does_not_have_is_checked_after() -> None:
    schema = {"type": "string", "pattern": "^a+-b+$", "minLength": 3, "maxLength": 5}

    assert admit(schema, "s").checked == ("/maxLength", "/minLength")


def test_lengths_count_an_escape_as_one_character() -> None:
    pattern = re.compile(admit({"type": "string", "minLength": 2, "maxLength": 3}, "s").pattern)

    texts = ["a", "ab", "abc", "abcd", '"\\\n', "日本語", "😀"]
    found = [each for each in texts if pattern.fullmatch(json.dumps(each, ensure_ascii=False))]
    assert found == ["ab", "abc", '"\\\n', "日本語"]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_string_of_a_format_is_one(name: str) -> None:
    admitted = admit({"type": "string", "format": name}, "s")
    lengths = {"email", "hostname", "idn-email", "idn-hostname"}

    for seed in range(60):
        text = walk(admitted.pattern, random.Random(seed), eager=0.2)
        if name not in lengths or len(text) < 60:
            admitted.verify(text)


FORMATTED = {
    "date": (["2024-02-29", "2023-12-31", "2000-02-29"], ["2023-02-29", "1900-02-29", "2023-1-1"]),
    "time": (["23:59:59Z", "10:10:10.5+05:30"], ["24:00:00Z", "10:10:10"]),
    "date-time": (["2024-01-01T00:00:00Z"], ["2024-01-01", "2024-01-01T00:00:00"]),
    "duration": (["P1Y2M3DT4H5M6S", "PT1H", "P2W"], ["P", "PT", "P1YT", "P1Y3D"]),
    "email": (["john.doe+x@mail.example.com"], ["john", "a b@c.d", 'a"@b.c']),
    "ipv4": (["127.0.0.1", "255.255.255.255"], ["256.1.1.1", "1.1.1", "01.1.1.1"]),
    "ipv6": (["::1", "fe80::1", "1:2:3:4:5:6:7:8", "::"], ["1::2::3", "12345::"]),
    "uuid": (["2eb8aa08-aa98-11ea-b4aa-73b441d16380"], ["2eb8aa08aa9811eab4aa73b441d16380"]),
    "uri": (["https://a.example/b?c=d#e", "urn:isbn:1"], ["a.example", "https://a b"]),
    "hostname": (["localhost", "a-b.example.com"], ["-a", "a_b", "a..b"]),
}


@pytest.mark.parametrize("name", FORMATTED)
def test_formats_have_the_strings_that_people_write(name: str) -> None:
    pattern = re.compile(admit({"type": "string", "format": name}, "s").pattern)
    valid, invalid = FORMATTED[name]

    assert [each for each in valid if not pattern.fullmatch(json.dumps(each))] == []
    assert [each for each in invalid if pattern.fullmatch(json.dumps(each))] == []


def test_an_unknown_format_is_an_annotation() -> None:
    assert admit({"type": "string", "format": "int32"}, "s").checked == ()


@pytest.mark.parametrize(
    ("regex", "matching", "others"),
    [
        (r"\d{3}", ["123"], ["1234", "12"]),
        ("^yes|no$", ["yes", "no"], ["yesno"]),
        ("(red|green) light", ["red light"], ["blue light"]),
        (r"[^a]\.", ["b.", "\n."], ["a.", "bb"]),
        ('"quoted" \\\\', ['"quoted" \\'], ["quoted"]),
    ],
)
def test_a_clients_own_expression_matches_the_whole_reply(
    regex: str, matching: list[str], others: list[str]
) -> None:
    admitted = admit_pattern(regex, "s")
    pattern = re.compile(admitted.pattern)

    assert all(map(pattern.fullmatch, matching))
    assert not any(map(pattern.fullmatch, others))
    for text in matching:
        admitted.verify(text)
    for text in others:
        with pytest.raises(SchemaViolation):
            admitted.verify(text)


ALL_ASCII = "".join(map(chr, range(0x20, 0x7F)))


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        (re.escape(ALL_ASCII), ALL_ASCII),
        (f"[{re.escape(ALL_ASCII)}]+", ALL_ASCII),
        ("[<>]<>", "<<>"),
        (r"[^a-z]+", "Z\n😀\u2028 é"),
        (r"\w\d\s\W\D\S", "a1\t-b!"),
        ("", ""),
        ("a.b", "a€b"),
    ],
)
def test_a_text_is_verified_by_what_the_pattern_says(regex: str, text: str) -> None:
    admitted = admit_pattern(regex, "s")

    assert re.fullmatch(admitted.pattern, text)
    admitted.verify(text)
    for other in (f"{text}\n\x00", f"\x00{text}", f"{text}\x00"):
        with pytest.raises(SchemaViolation):
            admitted.verify(other)


def test_a_line_break_at_the_end_is_a_character() -> None:
    with pytest.raises(SchemaViolation):
        admit_pattern("abc", "s").verify("abc\n")


def test_a_text_is_verified_in_linear_time() -> None:
    admitted = admit_pattern("(a|a)*b", "s")

    start = time.thread_time()
    with pytest.raises(SchemaViolation):
        admitted.verify("a" * 100_000)
    assert time.thread_time() - start < 1


def test_an_expression_says_what_it_costs() -> None:
    assert 0 < admit_pattern("a{3}", "s").cost < admit_pattern("a{30}", "s").cost <= BUDGET


@pytest.mark.parametrize("regex", ["(" * 200 + "a" + ")" * 200, "(a|" * 340 + "b" + ")" * 340])
@pytest.mark.parametrize("repeat", ["", "+", "*"])
def test_groups_nested_too_deep_are_refused(regex: str, repeat: str) -> None:
    repeated = regex.replace(")", f"){repeat}")[:2048]
    calls = (
        lambda: admit_pattern(repeated, "s"),
        lambda: admit({"type": "string", "pattern": regex}, "s"),
        lambda: admit({"type": "object", "patternProperties": {regex: {}}}, "s"),
    )

    for call in calls:
        with pytest.raises(InvalidRequest) as refusal:
            call()
        assert refusal.value.code == "schema_too_complex"


@pytest.mark.parametrize("regex", [r"[(]{3}\(\(" + r"\(" * 100, "[((((]" * 30])
def test_parentheses_that_stand_for_themselves_are_no_groups(regex: str) -> None:
    assert admit_pattern(regex, "s").cost


@pytest.mark.parametrize(
    ("regex", "reason"),
    [
        ("[]", "[] is empty in ECMAScript"),
        ("[^]", "[^] is empty in ECMAScript"),
        ("[]a]", "[] is empty in ECMAScript"),
        ("^a{,3}$", "{,3} is no repeat in ECMAScript"),
    ],
)
def test_what_is_read_in_two_ways_is_refused_with_its_reason(regex: str, reason: str) -> None:
    calls = (
        lambda: admit_pattern(regex, "s"),
        lambda: admit({"type": "string", "pattern": regex}, "s"),
    )

    for call in calls:
        with pytest.raises(InvalidRequest) as refusal:
            call()
        assert refusal.value.code == "unsupported_schema"
        assert reason in refusal.value.message


@pytest.mark.parametrize(
    "regex", [r"\bfoo", "a^b", "a$b", "(?=a)a", r"(a)\1", "(?i)a", "[", "\x01"]
)
def test_a_clients_own_expression_is_refused_where_it_cannot_be_enforced(regex: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        admit_pattern(regex, "structured_outputs.regex")

    assert refusal.value.code == "unsupported_schema"
    assert refusal.value.param == "structured_outputs.regex"


def test_control_characters_are_never_matched() -> None:
    patterns = [
        admit(schema, "s").pattern
        for schema in ({}, {"type": "string"}, {"type": "string", "pattern": "[^a]"})
    ]
    patterns.append(admit_pattern(r"[^a]\W.*", "s").pattern)
    forbidden = [chr(code) for code in range(32) if chr(code) not in "\t\n\r"] + ["\x7f"]

    for pattern in patterns:
        for character in forbidden:
            assert not re.fullmatch(pattern, f'"{character}"')
            assert not re.fullmatch(pattern, f"b-{character}")


def test_a_set_inside_a_set_is_not_guessed_at() -> None:
    with pytest.raises(Untranslatable):
        string_matching("[a-z&&[aeiou]]")
