import pytest

from app.adapters import attempt
from app.adapters.attempt import FIRST_PAUSE_SECONDS, Attempt
from app.adapters.journal import Entry
from app.adapters.source import Source
from app.errors import AdapterUnusable, HubUnreachable

ENTRY = Entry(Source("hub", "a/b"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(attempt.time, "monotonic", lambda: now[0])
    return now


def test_what_the_client_must_mend_waits_for_a_change(clock: list[float]) -> None:
    tried = Attempt(ENTRY, ())
    tried.fail(AdapterUnusable("Damaged."))
    clock[0] = 1e6

    assert not tried.is_due(ENTRY, ())
    assert tried.is_due(ENTRY, ((1, 2, 3),))
    assert tried.is_due(Entry(Source("hub", "a/b"), pinned=True), ())


def test_what_may_pass_is_tried_again_after_growing_pauses(clock: list[float]) -> None:
    first = Attempt(ENTRY, ())
    first.fail(HubUnreachable("Gone."))
    assert not first.is_due(ENTRY, ())
    clock[0] = FIRST_PAUSE_SECONDS
    assert first.is_due(ENTRY, ())

    second = Attempt(ENTRY, (), first)
    second.fail(HubUnreachable("Gone."))
    clock[0] += FIRST_PAUSE_SECONDS
    assert not second.is_due(ENTRY, ())
    clock[0] += FIRST_PAUSE_SECONDS
    assert second.is_due(ENTRY, ())


def test_what_has_succeeded_is_not_tried_again(clock: list[float]) -> None:
    tried = Attempt(ENTRY, ())
    tried.succeed()
    clock[0] = 1e6

    assert not tried.is_due(ENTRY, ())
