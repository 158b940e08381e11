from pathlib import Path

import pytest

from tests import audit
from tests.audit import Package, Unreachable, Vulnerability, one_version_each, pinned, unaccepted

LOCK = r"""
jinja2==2.4.1 \
    --hash=sha256:00 \
    --hash=sha256:11
torch==2.13.0+cpu
Pillow==13.0.0 ; python_version > "3"
"""
HOLE = Vulnerability("PYSEC-1", ["CVE-1"], ["2.11.3"])


def test_locked_versions_are_asked_about_without_hashes_and_builds() -> None:
    assert pinned([LOCK, LOCK]) == ["jinja2==2.4.1", "pillow==13.0.0", "torch==2.13.0"]


def test_every_lock_of_the_repository_is_read() -> None:
    locks = sorted(audit.LOCKS.glob("*.txt"))
    found = pinned(path.read_text() for path in locks)

    assert len(locks) >= 5
    for lock in locks:
        lines = lock.read_text().splitlines()
        assert sum("==" in line for line in lines) == len(pinned([lock.read_text()]))
    assert any(each.startswith("vllm==") for each in found)
    assert any(each.startswith("torch==") and "+" not in each for each in found)


def test_two_versions_of_a_package_are_asked_about_one_after_the_other() -> None:
    rounds = list(one_version_each(["a==1", "a==2", "b==1"]))

    assert sorted(each for some in rounds for each in some) == ["a==1", "a==2", "b==1"]
    assert all(len({each.split("==")[0] for each in some}) == len(some) for some in rounds)


@pytest.mark.parametrize(
    ("accepted", "lines"),
    [
        ({}, ["jinja2 2.4.1: PYSEC-1, fixed in 2.11.3"]),
        ({"CVE-2": "another"}, ["jinja2 2.4.1: PYSEC-1, fixed in 2.11.3"]),
        ({"CVE-1": "no templates from clients"}, []),
        ({"PYSEC-1": "no templates from clients"}, []),
    ],
)
def test_a_vulnerability_needs_a_reason(accepted: dict[str, str], lines: list[str]) -> None:
    assert list(unaccepted([Package("jinja2", "2.4.1", [HOLE])], accepted)) == lines


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([Package("a", "1")], 0, "1 packages checked"),
        ([Package("a", "1", [HOLE])], 1, "PYSEC-1"),
        ([Package("a", skip_reason="not found")], 0, "not checked"),
    ],
    ids=["nothing", "a hole", "no answer"],
)
def test_the_check_fails_for_a_vulnerability_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: list[Package],
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(audit, "audited", lambda _: found)
    monkeypatch.setattr(audit, "one_version_each", lambda requirements: [requirements])

    assert audit.main() == status
    assert said in capsys.readouterr().out


def test_a_registry_that_is_gone_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(_: object) -> list[Package]:
        raise Unreachable("no route")

    monkeypatch.setattr(audit, "audited", unreachable)

    assert audit.main() == 0
    assert "not checked" in capsys.readouterr().out


def test_accepted_vulnerabilities_have_reasons() -> None:
    import tomllib

    accepted = tomllib.loads(Path(audit.ACCEPTED).read_text())
    assert all(isinstance(reason, str) and len(reason) > 20 for reason in accepted.values())
