import json
import random
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.tools.gate.admitted import AdmittedSchema, admit
from tests.tools.gate.walking import walk

TOOLS = Path(__file__).parents[4] / "shared/data/bfcl_tools.jsonl"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the tools are not in ../shared/data")


def schemas() -> list[dict[str, Any]]:
    return [json.loads(line)["parameters"] for line in TOOLS.read_text().splitlines()]


def admitted_or_none(schema: dict[str, Any]) -> AdmittedSchema | None:
    try:
        return admit(schema, "parameters")
    except InvalidRequest:
        return None


def test_real_schemas_are_admitted() -> None:
    """But for one that asks for an array which is one of some strings."""
    refused = [schema for schema in schemas() if admitted_or_none(schema) is None]

    assert len(refused) <= 1


def test_whatever_their_patterns_allow_is_valid() -> None:
    generator = random.Random(0)
    for schema in generator.sample(schemas(), 60):
        admitted = admitted_or_none(schema)
        if admitted is not None and not admitted.checked:
            for _ in range(5):
                admitted.verify(walk(admitted.pattern, generator))
