from collections.abc import Iterator

import pytest

from app.errors import InvalidRequest
from app.tools.gate.admitted import AdmittedSchema, admit
from tests.tools.gate.schema_suite import (
    SUITE,
    Case,
    Finding,
    findings,
    is_about_annotations,
    suite,
)

pytestmark = pytest.mark.skipif(
    not SUITE.exists(), reason="JSON-Schema-Test-Suite is not in ../shared/data"
)


def admitted_cases() -> Iterator[tuple[Case, AdmittedSchema]]:
    for case in suite():
        try:
            yield case, admit(case.schema, "schema")
        except InvalidRequest as error:
            assert error.code in ("unsupported_schema", "schema_too_complex")


def all_findings() -> Iterator[tuple[AdmittedSchema, Finding]]:
    for case, admitted in admitted_cases():
        for finding in findings(case, admitted):
            yield admitted, finding


def test_no_invalid_instance_is_accepted() -> None:
    unsound = [each for _, each in all_findings() if each.matches and each.verified != each.valid]

    assert [each for each in unsound if not is_about_annotations(each.case)] == []


def test_what_the_pattern_allows_fails_only_where_that_was_said() -> None:
    surprising = [
        finding
        for admitted, finding in all_findings()
        if finding.matches and not finding.verified and not admitted.checked
    ]

    assert surprising == []


def test_most_schemas_are_admitted() -> None:
    """The others refer to other documents, are dynamic, or have no instance at all."""
    assert sum(1 for _ in admitted_cases()) >= 380
