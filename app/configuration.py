"""Settings from the command line, the environment and a TOML file, in that order of precedence.

Whatever is wrong becomes one sentence in a ConfigurationError.
"""

import argparse
import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from app.adapters.source import NAME
from app.errors import ServerError
from app.settings import Settings

PREFIX = "LLM_"
SEED_NAMES = {
    "MODEL_PATH": "model",
    "MODEL_NAME": "model_name",
    "MODEL_TYPE": "model_type",
    "MMPROJ_PATH": "mmproj_path",
}
"""Environment variables of the server whose clients we took over; ours win over them."""

DANGEROUS = {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "lets vLLM run code that it is sent as pickles",
    "VLLM_SERVER_DEV_MODE": "is for vLLM's own development",
}
"""Environment variables of vLLM that no server should have;
https://docs.vllm.ai/en/latest/usage/security/"""

FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
ENGINE_ARGUMENTS = "engine_arguments"

KnownArguments = Callable[[], frozenset[str]]


class ConfigurationError(ServerError):
    """The server cannot start as it was told to."""


def load_settings(
    arguments: Sequence[str], environment: Mapping[str, str], known_arguments: KnownArguments
) -> Settings:
    """Read and check all settings.

    `known_arguments` gives vLLM's engine arguments; importing vLLM takes seconds, so it is called
    only if there is a name that is not ours. Raises ConfigurationError.
    """
    parsed, unknown = parser().parse_known_args(arguments)
    refuse_environment(environment)
    given = {k: v for k, v in vars(parsed).items() if v is not None and k != "config"}
    config = parsed.config or environment.get("LLM_CONFIG")
    merged = read_file(config) | read_environment(environment) | given | parse_unknown(unknown)
    settings = convert(split_arguments(merged, known_arguments))
    return check(msgspec.structs.replace(settings, api_keys=read_keys(settings)))


def refuse_environment(environment: Mapping[str, str]) -> None:
    """What opens vLLM to code of others' is not served with. Raises ConfigurationError."""
    for name, danger in DANGEROUS.items():
        if environment.get(name, "0") not in ("", "0"):
            raise ConfigurationError(f"{name} is set, which {danger}: unset it.")


class Options(argparse.ArgumentParser):
    """A parser whose errors are ours: one sentence and no usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"The command line is wrong: {message}.")


def parser() -> argparse.ArgumentParser:
    """One option a setting, with its meaning and default as help."""
    options = Options(
        prog="python -m app",
        description="Serve a language model over HTTP.",
        epilog="Any other engine argument of vLLM is taken too, for instance --max-num-seqs 64. "
        "Each setting can also be an environment variable (LLM_PORT) or a line of a TOML file.",
        allow_abbrev=False,
    )
    options.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, field in FIELDS.items():
        if name != ENGINE_ARGUMENTS:
            add_option(options, name, field)
    return options


def add_option(
    options: argparse.ArgumentParser, name: str, field: msgspec.structs.FieldInfo
) -> None:
    text = f"{describe(field)} (default: {show(field.default)})".replace("%", "%%")
    flag = "--" + name.replace("_", "-")
    if isinstance(field.default, bool):
        options.add_argument(flag, dest=name, nargs="?", const="true", help=text, metavar="BOOL")
    else:
        options.add_argument(flag, dest=name, help=text, metavar=name.upper())


def describe(field: msgspec.structs.FieldInfo) -> str:
    """The meaning of a setting, with its range or choices."""
    kind = msgspec.inspect.type_info(field.type)
    text = ""
    if isinstance(kind, msgspec.inspect.Metadata):
        text = (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return f"{text} Range: {kind.ge} to {kind.le}."
    if isinstance(kind, msgspec.inspect.LiteralType):
        return f"{text} One of: {', '.join(map(str, kind.values))}."
    return text


def show(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    if default in ("", {}):
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def read_file(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error}.") from error


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`LLM_*` variables, and the seeds' names under them; empty ones count as absent."""
    seeds = {ours: environment[name] for name, ours in SEED_NAMES.items() if environment.get(name)}
    return seeds | {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != "LLM_CONFIG" and value
    }


def parse_unknown(arguments: Sequence[str]) -> dict[str, Any]:
    """Options that are not ours: `--name value`, `--name=value`, or `--name` alone for true."""
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigurationError(f"{flag!r} stands where an option was expected.")
        name, equals, value = flag.removeprefix("--").partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        found[name.replace("-", "_")] = value
    return found


def split_arguments(merged: dict[str, Any], known: KnownArguments) -> dict[str, Any]:
    """Move what is vLLM's into `engine_arguments`; refuse what is nobody's."""
    ours = {name: parse_value(name, value) for name, value in merged.items() if name in FIELDS}
    theirs = {name: value for name, value in merged.items() if name not in FIELDS}
    theirs |= ours.pop(ENGINE_ARGUMENTS, {})
    if theirs:
        names = known()
        for name in theirs:
            if name not in names:
                refuse_name(name, [*FIELDS, *names])
        ours[ENGINE_ARGUMENTS] = {name: parse_json(value) for name, value in theirs.items()}
    return ours


def refuse_name(name: str, names: Sequence[str]) -> None:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"There is no setting {name!r}.{hint}")


def parse_value(name: str, value: Any) -> Any:
    """Lists and tables are written with commas outside TOML."""
    default = FIELDS[name].default
    if isinstance(value, str) and isinstance(default, tuple):
        values = [each.strip() for each in value.split(",") if each.strip()]
        if not values:
            raise ConfigurationError(f"The setting {name!r} is wrong: the list is empty.")
        return values
    if name == ENGINE_ARGUMENTS:
        return parse_table(name, value)
    if isinstance(value, str) and name == "adapters":
        pairs = (each.partition("=") for each in value.split(",") if each.strip())
        return {key.strip(): path.strip() for key, _, path in pairs}
    return value


def parse_table(name: str, value: Any) -> dict[str, Any]:
    """A table of TOML, or as JSON text."""
    table = parse_json(value)
    if not isinstance(table, dict):
        raise ConfigurationError(f"The setting {name!r} is wrong: expected a table.")
    return table


def parse_json(value: Any) -> Any:
    """vLLM's own values: numbers, booleans and objects as JSON, anything else as text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def convert(raw: dict[str, Any]) -> Settings:
    """Check kinds and ranges. Raises ConfigurationError."""
    for name, value in raw.items():
        try:
            msgspec.convert(value, FIELDS[name].type, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error)[0].lower() + str(error)[1:]
            raise ConfigurationError(f"The setting {name!r} is wrong: {reason}.") from error
    return msgspec.convert(raw, Settings, strict=False)


def read_keys(settings: Settings) -> tuple[str, ...]:
    if not settings.api_key_file:
        return settings.api_keys
    try:
        lines = Path(settings.api_key_file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key file cannot be read: {error}.") from error
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise ConfigurationError(f"The key file {settings.api_key_file} holds no key.")
    return (*settings.api_keys, *keys)


def check(settings: Settings) -> Settings:
    """What no single setting can say of itself. Raises ConfigurationError."""
    if settings.adapter_dir and not Path(settings.adapter_dir).is_dir():
        raise ConfigurationError(f"The folder of adapters {settings.adapter_dir} does not exist.")
    for name in settings.adapters:
        if not NAME.fullmatch(name) or name in settings.base_names:
            raise ConfigurationError(
                f"The adapter name {name!r} is a name of the base model, or has other characters "
                "than letters, digits, '.', '_' and '-'."
            )
    keys = (*settings.api_keys, *settings.admin_keys)
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigurationError("Keys go into a header: they must be printable ASCII.")
    has_keys = settings.api_keys or settings.key_file
    if settings.is_exposed and not has_keys and not settings.trusted_network:
        raise ConfigurationError(
            f"Listening on {settings.host} without a key lets anyone use this server: set "
            "LLM_API_KEYS or LLM_KEY_FILE, or LLM_TRUSTED_NETWORK=true if the network itself "
            "keeps others out."
        )
    return settings
