"""The key file: a table of rights and limits a key, in TOML, with the key's hash and never the key.

A key is 256 random bits, so an unsalted SHA-256 of it cannot be searched: salts and slow hashes
are for passwords, which people choose.
"""

import hashlib
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import tomlkit
import tomlkit.items

from app.configuration import ConfigurationError
from app.durable import locked, replace_file
from app.keys.grant import ALIAS, Grant

PREFIX = "sk-slipstream-"
"""By which scanners for lost keys can tell them."""

KEY_BYTES = 32
MAX_FILE_BYTES = 1 << 20
"""About 5000 keys. Each is read again whenever the file changes."""

Grants = dict[str, Grant]


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest(key: str) -> bytes:
    """SHA-256 of a key as it came in a header; also of what is no text."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class KeyFile:
    """Grants by alias, in a file that may be edited by hand. Raises ConfigurationError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Grants:
        return parsed(self._text())

    def add(self, alias: str, grant: Grant) -> None:
        """Write down another key."""
        with self._edited() as document:
            if alias in document:
                raise ConfigurationError(f"There is a key {alias!r} already; revoke it first.")
            document.add(alias, table_of(grant))

    def remove(self, alias: str) -> None:
        """Forget a key."""
        with self._edited() as document:
            if alias not in document:
                raise ConfigurationError(f"There is no key {alias!r} in {self.path}.")
            document.remove(alias)

    @contextmanager
    def _edited(self) -> Iterator[tomlkit.TOMLDocument]:
        """The file to be changed; what stays keeps its form and its comments."""
        path = self.path.resolve()  # whoever follows a link to it must see what changes
        try:
            with locked(path):
                text = self._text() if self.path.exists() else ""
                parsed(text)
                document = tomlkit.parse(text)
                yield document
                changed = tomlkit.dumps(document)
                parsed(changed)
                replace_file(path, changed.encode())
        except OSError as error:
            raise ConfigurationError(f"The key file cannot be written: {error}.") from error

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                raise ConfigurationError(f"The key file is larger than {MAX_FILE_BYTES} bytes.")
            return content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The key file cannot be read: {error}.") from error


def parsed(text: str) -> Grants:
    """The tables of a key file, checked. Raises ConfigurationError."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The key file is not TOML: {error}.") from error
    grants = {alias: grant_of(alias, table) for alias, table in tables.items()}
    aliases: dict[str, str] = {}
    for alias, grant in grants.items():
        other = aliases.setdefault(grant.hash, alias)
        if other != alias:
            raise ConfigurationError(f"The key file has one key twice: as {other} and {alias}.")
    return grants


def grant_of(alias: str, table: object) -> Grant:
    """Raises ConfigurationError."""
    if not ALIAS.fullmatch(alias):
        raise ConfigurationError(
            f"The key file has the alias {alias[:64]!r}: expected up to 64 letters, digits, '.', "
            "'_' and '-', and no name that the server gives (key-1, admin-1, anonymous, other)."
        )
    try:
        grant = msgspec.convert(table, Grant)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The key {alias!r} of the key file is wrong: {error}.") from error
    if not grant.hash:
        raise ConfigurationError(f"The key {alias!r} of the key file has no hash.")
    return grant


def table_of(grant: Grant) -> tomlkit.items.Table:
    """What is not as it would be anyway."""
    default = msgspec.structs.asdict(Grant())
    fields = msgspec.structs.asdict(grant)
    table = tomlkit.table()
    for name, value in fields.items():
        if value != default[name]:
            table.add(name, list(value) if isinstance(value, tuple) else value)
    return table
