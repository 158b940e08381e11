"""Any schema and any expression at the gate: admitted and then kept to the letter, or refused."""

import random
import time
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.tools.gate.admitted import AdmittedSchema, admit, admit_pattern
from tests.fuzz.json_schemas import PATTERNS, SCHEMAS
from tests.tools.gate.walking import walk

MOST_CPU_SECONDS = 5
"""For one schema; nothing that hypothesis makes is as large as what clients may send."""

LONGEST_WALKED = 4000
"""Characters of a pattern; compiling longer ones takes longer than all the rest here."""

WALKS = 5
CODES = {"unsupported_schema", "schema_too_complex"}


def admitted_or_none(schema: Any) -> AdmittedSchema | None:
    """What becomes of it, in bounded time; a refusal says where and why."""
    started = time.thread_time()
    try:
        return admit(schema, "parameters")
    except InvalidRequest as error:
        assert error.code in CODES
        assert error.param is not None
        assert error.param.startswith("parameters")
        return None
    finally:
        assert time.thread_time() - started < MOST_CPU_SECONDS


@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_what_a_pattern_allows_is_valid(schema: Any, seed: int) -> None:
    """But for what is noted as checked later: there the check may refuse, and nothing else may."""
    admitted = admitted_or_none(schema)
    event("refused" if admitted is None else "admitted")
    if admitted is None or admitted.checked or len(admitted.pattern) > LONGEST_WALKED:
        return
    generator = random.Random(seed)
    for _ in range(WALKS):
        admitted.verify(walk(admitted.pattern, generator))


@given(regex=PATTERNS | st.lists(PATTERNS, max_size=3).map("".join) | st.text(max_size=8))
def test_an_expression_is_kept_to_or_refused(regex: str) -> None:
    try:
        admitted = admit_pattern(regex, "structured_outputs.regex")
    except InvalidRequest as error:
        assert error.status == 400
        assert error.param == "structured_outputs.regex"
        return
    if len(admitted.pattern) <= LONGEST_WALKED:
        generator = random.Random(0)
        for _ in range(WALKS):
            admitted.verify(walk(admitted.pattern, generator))
