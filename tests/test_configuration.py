import sys
from pathlib import Path

import pytest

from app.configuration import ConfigurationError, load_settings, parser
from app.settings import Settings


def load(*arguments: str, **environment: str) -> Settings:
    return load_settings(arguments, environment, lambda: frozenset({"max_num_seqs", "kv_cache"}))


def test_defaults_serve_the_demo_on_this_machine() -> None:
    settings = load()

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.served_name == "slipstream-demo"
    assert Path(settings.model_path, "model.safetensors").exists()
    assert not settings.usage_stats
    assert not settings.cors_origins


def test_command_line_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nmax_loras = 2\nmodel_name = "file"\napi_keys = ["a"]\n')

    settings = load("--port", "3", LLM_CONFIG=str(file), LLM_PORT="2", LLM_MAX_LORAS="5")

    assert (settings.port, settings.max_loras, settings.model_name) == (3, 5, "file")
    assert settings.api_keys == ("a",)


def test_seed_names_work_and_ours_win() -> None:
    seeds = load(MODEL_PATH="/m/llama", MODEL_NAME="my-llm", MODEL_TYPE="LLM")
    both = load(MODEL_PATH="/m/llama", LLM_MODEL="/m/qwen")

    assert (seeds.model, seeds.served_name, seeds.model_type) == ("/m/llama", "my-llm", "LLM")
    assert both.served_name == "qwen"


def test_lists_and_tables_are_split_at_commas() -> None:
    settings = load(LLM_API_KEYS="a, b", LLM_ADAPTERS="x=/1, y=/2")

    assert settings.api_keys == ("a", "b")
    assert settings.adapters == {"x": "/1", "y": "/2"}


def test_engine_arguments_pass_by_their_own_names() -> None:
    settings = load("--max-num-seqs", "8", "--kv-cache", LLM_TRUSTED_NETWORK="true")

    assert settings.engine_arguments == {"max_num_seqs": 8, "kv_cache": True}
    assert settings.trusted_network


def test_engine_arguments_may_have_a_table_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("max_num_seqs = 7\n[engine_arguments]\nkv_cache = true\n")

    assert load("--config", str(file)).engine_arguments == {"max_num_seqs": 7, "kv_cache": True}

    file.write_text("[engine_arguments]\nkv_cash = true\n")
    with pytest.raises(ConfigurationError, match="Did you mean 'kv_cache'"):
        load("--config", str(file))


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n\ntwo\n")

    assert load("--api-key-file", str(file), "--api-keys", "three").api_keys == (
        "three",
        "one",
        "two",
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--prot", "1"], {}, "There is no setting 'prot'. Did you mean 'port'?"),
        ([], {"LLM_PROT": "1"}, "There is no setting 'prot'. Did you mean 'port'?"),
        (["--port", "70000"], {}, "The setting 'port' is wrong: expected `int` <= 65535."),
        (["--port", "x"], {}, "The setting 'port' is wrong: expected `int`, got `str`."),
        (["--dtype", "int4"], {}, "The setting 'dtype' is wrong: invalid enum value 'int4'."),
        (["--drain-seconds", "-1"], {}, "The setting 'drain_seconds' is wrong: expected"),
        (["serve"], {}, "'serve' stands where an option was expected."),
        ([], {"LLM_CONFIG": "/nowhere.toml"}, "The settings file /nowhere.toml cannot be read"),
        (["--api-key-file", "/nowhere"], {}, "The key file cannot be read"),
        (["--api-key-file", sys.executable], {}, "The key file cannot be read"),
        ([], {"MODEL_TYPE": "vision"}, "The setting 'model_type' is wrong: invalid enum value"),
        (
            [],
            {"LLM_ADAPTERS": "slipstream-demo=/a"},
            "The adapter name 'slipstream-demo' is a name",
        ),
        ([], {"LLM_ADAPTERS": "a/b=/a"}, "The adapter name 'a/b' is a name of the base model, or"),
        (["--adapter-dir", "/nowhere"], {}, "The folder of adapters /nowhere does not exist."),
        (["--port"], {}, "The command line is wrong: argument --port: expected one argument."),
        ([], {"LLM_API_KEYS": " , "}, "The setting 'api_keys' is wrong: the list is empty."),
        (["--api-key-file", "/dev/null"], {}, "The key file /dev/null holds no key."),
        (["--api-keys", "clé"], {}, "Keys go into a header"),
    ],
)
def test_wrong_settings_stop_the_start_with_one_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(*arguments, **environment)

    assert error.value.message.startswith(sentence)
    assert "\n" not in error.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_exposed_without_a_key_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="LLM_TRUSTED_NETWORK"):
        load("--host", host)

    assert load("--host", host, LLM_API_KEYS="a").host == host
    assert load("--host", host, "--trusted-network").host == host


@pytest.mark.parametrize("name", ["VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_SERVER_DEV_MODE"])
def test_what_opens_vllm_to_others_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load(**{name: "1"})

    assert load(**{name: "0"})


def test_help_lists_every_setting_with_its_default() -> None:
    text = " ".join(parser().format_help().split())

    for name in Settings.__struct_fields__:
        if name != "engine_arguments":
            assert f"--{name.replace('_', '-')}" in text
    assert "Port to listen on. Range: 0 to 65535. (default: 8000)" in text


def test_keys_are_not_in_the_repr() -> None:
    assert "secret" not in repr(Settings(api_keys=("secret",)))
