"""Any command line, environment and file: settings within their ranges, or one sentence."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.configuration import FIELDS, PREFIX, ConfigurationError, load_settings
from app.settings import Settings

NAMES = [*FIELDS, "max_num_seqs", "config", "", "no_such", "engine_arguments", "é"]
VALUES = st.sampled_from(
    [
        *("", "0", "1", "-1", "1e999", "nan", "true", "no", "null", "[]", "{}", '{"a": 1}', "a=b"),
        *(",", "a,b", "a=b,c", "=", "9" * 400, "1_000", " 1", "0x10", "/nowhere", "..", "\0", "é"),
        *("demo", "auto", "127.0.0.1", "0.0.0.0", "8000", "65536", "%", "%s", "$HOME"),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLAGS = st.sampled_from(["--" + name.replace("_", "-") for name in NAMES] + ["--", "-", "-h=1"])
ARGUMENTS = st.lists(FLAGS | VALUES | st.tuples(FLAGS, VALUES).map("=".join), max_size=6)
ENVIRONMENT = st.dictionaries(
    st.sampled_from([PREFIX + name.upper() for name in NAMES] + ["MODEL_PATH", "MODEL_TYPE"]),
    VALUES,
    max_size=4,
)
TABLE = st.dictionaries(st.sampled_from(NAMES), VALUES | st.integers() | st.booleans(), max_size=4)
LINES = TABLE.map(
    lambda table: "\n".join(f"{name} = {toml(value)}" for name, value in table.items())
)


def toml(value: object) -> str:
    return msgspec.json.encode(value).decode()


@given(arguments=ARGUMENTS, environment=ENVIRONMENT)
def test_settings_are_in_range_or_refused_in_a_sentence(
    arguments: list[str], environment: dict[str, str]
) -> None:
    assert_settled(arguments, environment)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LINES | st.text(st.characters(exclude_categories=["Cs"])))
def test_a_file_of_settings_is_read_or_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    assert_settled([], {"LLM_CONFIG": str(file)})


def assert_settled(arguments: list[str], environment: dict[str, str]) -> None:
    if "--help" in arguments or "-h" in arguments:
        return
    try:
        read = load_settings(arguments, environment, lambda: frozenset({"max_num_seqs"}))
    except ConfigurationError as error:
        assert error.message.count("\n") == 0
        assert error.message.endswith((".", "?", "…"))
    else:
        assert msgspec.convert(msgspec.structs.asdict(read), Settings) == read


def test_a_range_that_is_left_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="port"):
        load_settings(["--port", "65536"], {}, frozenset)
