"""Known vulnerabilities in the locked versions: `python -m tests.audit`.

Asks the package registry through pip-audit. Ends with 1 for a vulnerability that
`locks/vulnerabilities.toml` does not give a reason for. Where the registry does not answer,
it says that nothing was checked, and ends with 0.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

LOCKS = Path(__file__).parents[1] / "locks"
ACCEPTED = LOCKS / "vulnerabilities.toml"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s+;\\]+)", re.MULTILINE)
"""A locked package without its local version: `torch==2.13.0+cpu` is the registry's 2.13.0."""

PROBED = 1
"""Packages to ask about first: a registry that says nothing of these is not asked about all."""


class Vulnerability(msgspec.Struct):
    """One entry of the registry's database about a package."""

    id: str
    aliases: list[str] = []
    fix_versions: list[str] = []


class Package(msgspec.Struct):
    """What was found about a package; `skip_reason` if nothing could be."""

    name: str
    version: str = ""
    vulns: list[Vulnerability] = []
    skip_reason: str = ""


class Report(msgspec.Struct):
    """What pip-audit prints."""

    dependencies: list[Package]


class Unreachable(Exception):
    """The registry did not answer."""


def pinned(locks: Iterable[str]) -> list[str]:
    """Requirements of all locks, each once."""
    found = {
        f"{name.lower()}=={version}" for lock in locks for name, version in PINNED.findall(lock)
    }
    return sorted(found)


def audited(requirements: Iterable[str]) -> list[Package]:
    """What the registry knows of these. Raises Unreachable."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        command = (sys.executable, "-m", "pip_audit", "--requirement", file.name)
        options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
        run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        return msgspec.json.decode(run.stdout, type=Report).dependencies
    except msgspec.DecodeError as error:
        raise Unreachable(run.stderr.strip().splitlines()[-1:]) from error


def one_version_each(requirements: Iterable[str]) -> Iterator[list[str]]:
    """Rounds in which no package is there twice: the locks of two platforms may differ."""
    rest = list(requirements)
    while rest:
        names = {each.partition("==")[0]: each for each in rest}
        yield list(names.values())
        rest = [each for each in rest if each not in names.values()]


def unaccepted(packages: Iterable[Package], accepted: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each vulnerability without a reason to accept it."""
    for package in packages:
        for found in package.vulns:
            if accepted.keys().isdisjoint([found.id, *found.aliases]):
                fixed = ", ".join(found.fix_versions) or "no version"
                yield f"{package.name} {package.version}: {found.id}, fixed in {fixed}"


def main() -> int:
    requirements = pinned(path.read_text() for path in sorted(LOCKS.glob("*.txt")))
    try:
        if all(package.skip_reason for package in audited(requirements[:PROBED])):
            raise Unreachable("it knows nothing of locked versions")
        packages = [each for some in one_version_each(requirements) for each in audited(some)]
    except Unreachable as error:
        print(f"Vulnerabilities were not checked: the registry does not answer ({error}).")
        return 0
    skipped = [package.name for package in packages if package.skip_reason]
    print(f"{len(packages)} packages checked for known vulnerabilities, but for {skipped}.")
    lines = list(unaccepted(packages, tomllib.loads(ACCEPTED.read_text())))
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
