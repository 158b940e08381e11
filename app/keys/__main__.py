"""`just key new|list|revoke`: the keys of a key file; a new one is shown once and never again."""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.configuration import ConfigurationError, Options
from app.keys.file import KeyFile, digest, new_key
from app.keys.grant import CLIENT_SCOPES, SCOPES, Grant

DEFAULT_FILE = "keys.toml"


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 2 if nothing was done."""
    try:
        asked = parser().parse_args(arguments)
        file = KeyFile(Path(asked.file))
        COMMANDS[asked.command](file, asked)
    except ConfigurationError as error:
        sys.stderr.write(f"slipstream: {error.message}\n")
        return 2
    return 0


def add(file: KeyFile, asked: argparse.Namespace) -> None:
    key = new_key()
    file.add(asked.alias, grant_of(asked, key))
    say(key)
    sys.stderr.write(
        f"This is the key {asked.alias!r}; it is not shown again. {file.path} has its hash; "
        f"a server with LLM_KEY_FILE={file.path} takes it at once.\n"
    )


def show(file: KeyFile, _: argparse.Namespace) -> None:
    for alias, grant in file.read().items():
        fields = msgspec.structs.asdict(grant)
        told = [f"{name}={text_of(value)}" for name, value in fields.items() if name != "hash"]
        say(" ".join([alias, *(each for each in told if not each.endswith("=None"))]))


def revoke(file: KeyFile, asked: argparse.Namespace) -> None:
    file.remove(asked.alias)
    sys.stderr.write(f"The key {asked.alias!r} is refused from now on.\n")


COMMANDS = {"new": add, "list": show, "revoke": revoke}


def parser() -> argparse.ArgumentParser:
    options = Options(prog="just key", description="The keys of a key file.")
    options.add_argument(
        "--file",
        default=os.environ.get("LLM_KEY_FILE") or DEFAULT_FILE,
        help=f"key file (default: LLM_KEY_FILE, or {DEFAULT_FILE})",
    )
    commands = options.add_subparsers(dest="command", required=True, parser_class=Options)
    new = commands.add_parser("new", help="make a key and show it, once")
    new.add_argument("alias", help="name of its holder in logs, metrics and usage")
    add_limits(new)
    commands.add_parser("list", help="show every key's alias, rights and limits")
    gone = commands.add_parser("revoke", help="forget a key")
    gone.add_argument("alias")
    return options


def add_limits(new: argparse.ArgumentParser) -> None:
    """One option a field of `Grant`."""
    scopes = ", ".join(SCOPES)
    default = " ".join(CLIENT_SCOPES)
    new.add_argument(
        "--scope", dest="scopes", action="append", choices=SCOPES, metavar="SCOPE",
        help=f"routes it may use, one of {scopes}; may be repeated (default: {default})",
    )  # fmt: skip
    new.add_argument(
        "--model", dest="models", action="append", metavar="NAME",
        help="model or adapter it may name; may be repeated (default: all)",
    )  # fmt: skip
    new.add_argument("--expires", metavar="TIME", help="2027-01-31, 2027-01-31T12:00:00Z or 90d")
    new.add_argument("--requests-per-minute", metavar="N")
    new.add_argument("--tokens-per-minute", metavar="N", help="of prompts and replies together")
    new.add_argument("--concurrent-requests", metavar="N")
    new.add_argument(
        "--priority", dest="highest_priority", choices=("high", "normal", "low"),
        help="highest priority that its requests may have (default: normal)",
    )  # fmt: skip


def grant_of(asked: argparse.Namespace, key: str) -> Grant:
    """The options as a checked grant. Raises ConfigurationError."""
    names = Grant.__struct_fields__
    given = {k: v for k, v in vars(asked).items() if k in names and v is not None}
    if "expires" in given:
        given["expires"] = moment(given["expires"])
    try:
        return msgspec.convert(given | {"hash": f"sha256:{digest(key).hex()}"}, Grant, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The command line is wrong: {error}.") from error


def moment(text: str) -> datetime.datetime:
    """A point in time, in UTC if nothing else is said. Raises ConfigurationError."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    try:
        if text.endswith("d"):
            return now + datetime.timedelta(days=float(text[:-1]))
        read = datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"--expires: expected a date, a time or days such as 90d, got {text!r}."
        ) from error
    return read if read.tzinfo else read.replace(tzinfo=datetime.UTC)


def text_of(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
