"""JSON-Schema-Test-Suite through the gate: `python -m tests.tools.gate.schema_suite`."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import InvalidRequest
from app.tools.gate.admitted import AdmittedSchema, SchemaViolation, admit

SUITE = Path(__file__).parents[4] / "shared/data/json_schema_test_suite/draft2020-12"
SEPARATORS = ((", ", ": "), (",", ":"))


class Case(NamedTuple):
    """One schema of the suite and its instances."""

    file: str
    description: str
    schema: Any
    tests: list[dict[str, Any]]


class Finding(NamedTuple):
    """One instance in one spelling: what it should be, and what pattern and check say."""

    case: Case
    description: str
    text: str
    valid: bool
    matches: bool
    verified: bool


def suite() -> Iterator[Case]:
    for path in sorted(SUITE.rglob("*.json")):
        for group in json.loads(path.read_text()):
            name = str(path.relative_to(SUITE))
            yield Case(name, group["description"], group["schema"], group["tests"])


def findings(case: Case, admitted: AdmittedSchema) -> Iterator[Finding]:
    pattern = re.compile(admitted.pattern)
    for test in case.tests:
        for separators in SEPARATORS:
            text = json.dumps(test["data"], ensure_ascii=False, separators=separators)
            matches = pattern.fullmatch(text) is not None
            verified = is_verified(admitted, text)
            yield Finding(case, test["description"], text, test["valid"], matches, verified)


def is_verified(admitted: AdmittedSchema, text: str) -> bool:
    try:
        admitted.verify(text)
    except SchemaViolation:
        return False
    return True


def is_about_annotations(case: Case) -> bool:
    """Whether the tests say that `format` and contents are never assertions, as in format.json."""
    return case.file in ("format.json", "content.json")


def main() -> None:
    rows: dict[str, Counter[str]] = {}
    rejected: list[str] = []
    for case in suite():
        row = rows.setdefault(case.file, Counter())
        try:
            admitted = admit(case.schema, "schema")
        except InvalidRequest as error:
            row["refused"] += 1
            rejected.append(f"refused   {case.file}: {case.description}: {error.message[:160]}")
            continue
        row["accepted"] += 1
        for finding in findings(case, admitted):
            wrong = finding.matches and finding.verified and not finding.valid
            row["unsound"] += wrong
            row["failing, not noted"] += (
                finding.matches and not finding.verified and not admitted.checked
            )
            if finding.valid and not finding.matches:
                row["valid, rejected"] += 1
                rejected.append(f"rejected  {case.file}: {case.description}: {finding.text[:80]}")
            elif finding.valid and not finding.verified:
                row["valid, not verified"] += 1
                rejected.append(f"verify    {case.file}: {case.description}: {finding.text[:80]}")
            row["instances"] += 1
            if wrong:
                rejected.append(f"UNSOUND   {case.file}: {case.description}: {finding.text[:80]}")
    print_table(rows, rejected)


def print_table(rows: dict[str, Counter[str]], lines: list[str]) -> None:
    columns = [
        *("accepted", "refused", "instances", "unsound", "failing, not noted"),
        *("valid, rejected", "valid, not verified"),
    ]
    table = [" ".join([f"{'file':44}", *(f"{column:>20}" for column in columns)])]
    for name, row in [*rows.items(), ("all", sum(rows.values(), Counter()))]:
        table.append(" ".join([f"{name:44}", *(f"{row[column]:20}" for column in columns)]))
    sys.stdout.writelines(f"{line}\n" for line in table + lines)


if __name__ == "__main__":
    main()
