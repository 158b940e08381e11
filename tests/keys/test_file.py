import datetime
import os
import stat
from pathlib import Path

import pytest

from app.configuration import ConfigurationError
from app.keys.__main__ import main
from app.keys.file import MAX_FILE_BYTES, KeyFile, digest, parsed
from app.keys.grant import CLIENT_SCOPES, Grant
from tests.keys.conftest import hashed

HASH = hashed("a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def make(path: Path, *arguments: str) -> int:
    return main(["--file", str(path), *arguments])


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(path, "new", "alice") == 0

    key = capsys.readouterr().out.strip()
    assert len(key) > 43 and key.startswith("sk-slipstream-")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert KeyFile(path).read() == {"alice": Grant(hash=hashed(key), scopes=CLIENT_SCOPES)}
    assert make(path, "list") == 0
    assert capsys.readouterr().out.startswith("alice scopes=chat,")


def test_two_keys_are_never_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for alias in ("a", "b", "c"):
        make(path, "new", alias)

    assert len(set(capsys.readouterr().out.split())) == 3
    assert list(KeyFile(path).read()) == ["a", "b", "c"]


def test_every_right_and_limit_can_be_given(path: Path) -> None:
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "1000"]
    rights = ["--scope", "chat", "--scope", "read", "--model", "base", "--model", "pirate"]
    more = ["--concurrent-requests", "8", "--priority", "low", "--expires", "2027-01-31"]

    assert make(path, "new", "a.b-c_d", *limits, *rights, *more) == 0

    grant = KeyFile(path).read()["a.b-c_d"]
    assert grant == Grant(
        hash=grant.hash,
        scopes=("chat", "read"),
        models=("base", "pirate"),
        expires=datetime.datetime(2027, 1, 31, tzinfo=datetime.UTC),
        requests_per_minute=60,
        tokens_per_minute=1000,
        concurrent_requests=8,
        highest_priority="low",
    )


def test_days_until_a_key_expires(path: Path) -> None:
    make(path, "new", "a", "--expires", "90d")

    expires = KeyFile(path).read()["a"].expires
    assert expires is not None
    left = expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=89) < left <= datetime.timedelta(days=90)


def test_a_key_that_is_revoked_leaves_the_rest_of_the_file_alone(path: Path) -> None:
    path.write_text(f'# ours\n[a]\nhash = "{HASH}"\n\n[b]  # Bob\nhash = "{hashed("b")}"\n')

    assert make(path, "revoke", "a") == 0

    assert list(KeyFile(path).read()) == ["b"]
    assert path.read_text().startswith("# ours\n") and "# Bob" in path.read_text()


def test_a_link_to_the_file_stays_one(path: Path) -> None:
    """Another server may follow the file under its own name."""
    make(path, "new", "a")
    link = path.with_name("link.toml")
    link.symlink_to(path)

    assert make(link, "revoke", "a") == 0

    assert link.is_symlink()
    assert KeyFile(path).read() == {}


def test_who_could_read_the_file_still_can(path: Path) -> None:
    """A server that cannot read it any more would go on to accept what was revoked."""
    make(path, "new", "a")
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 10001, 10001)
    before = path.stat()

    assert make(path, "revoke", "a") == 0

    after = path.stat()
    for name in ("st_mode", "st_uid", "st_gid"):
        assert getattr(after, name) == getattr(before, name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["new", "taken"], "There is a key 'taken' already"),
        (["new", "a b"], "the alias 'a b'"),
        (["new", "key-1"], "the alias 'key-1'"),
        (["new", "a" * 65], "the alias 'aaa"),
        (["new", "a", "--requests-per-minute", "0"], "requests_per_minute"),
        (["new", "a", "--tokens-per-minute", "many"], "tokens_per_minute"),
        (["new", "a", "--scope", "everything"], "invalid choice"),
        (["new", "a", "--expires", "soon"], "--expires"),
        (["new", "a", "--expires", "1e400d"], "--expires"),
        (["revoke", "nobody"], "There is no key 'nobody'"),
        ([], "required"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    make(path, "new", "taken")
    before = path.read_bytes()
    capsys.readouterr()

    assert make(path, *arguments) == 2

    said = capsys.readouterr()
    assert (sentence in said.err, said.err.count("\n"), said.out) == (True, 1, "")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[a", "is not TOML"),
        ("[a]\nscopes = []", "has no hash"),
        ("a = 1", "Expected `object`"),
        (f'[a]\nhash = "{HASH[:-1]}"', "hash"),
        ('[a]\nhash = "sk-the-key-itself"', "hash"),
        (f'[a]\nhash = "{HASH}"\nrequest_per_minute = 1', "request_per_minute"),
        (f'[a]\nhash = "{HASH}"\nscopes = ["all"]', "scopes"),
        (f'[a]\nhash = "{HASH}"\nexpires = 2027-01-01T00:00:00', "expires"),
        (f'[a]\nhash = "{HASH}"\n[b]\nhash = "{HASH}"', "one key twice: as a and b"),
        (f'["a/b"]\nhash = "{HASH}"', "the alias 'a/b'"),
        (f'[other]\nhash = "{HASH}"', "the alias 'other'"),
    ],
)
def test_a_wrong_file_is_refused_naming_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        parsed(text)

    assert "sk-the-key-itself" not in refused.value.message


def test_a_file_that_is_too_large_or_no_text_is_not_read(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="larger than"):
        KeyFile(path).read()
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyFile(path).read()


def test_hashes_are_sha256_so_that_other_programs_can_make_them() -> None:
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
