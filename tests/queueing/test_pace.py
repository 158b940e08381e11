import pytest

from app.queueing.pace import Pace


def test_first_endings_count_alike_later_ones_little_by_little() -> None:
    pace = Pace()
    assert pace.seconds_until(100, 10) == 0
    pace.note(1.0)
    pace.note(3.0)

    assert pace.seconds == 2.0
    for _ in range(1000):
        pace.note(5.0)
    assert pace.seconds == pytest.approx(5.0, rel=1e-3)


def test_places_become_free_at_the_rate_at_which_they_are_kept() -> None:
    pace = Pace()
    pace.note(2.0)

    assert pace.seconds_until(num_ends=30, places=10) == pytest.approx(6.0)


@pytest.mark.parametrize(("num_ends", "header"), [(0, 1), (1, 1), (30, 6), (10**6, 30)])
def test_clients_are_told_one_to_thirty_seconds(num_ends: int, header: int) -> None:
    pace = Pace()
    pace.note(2.0)

    assert pace.retry_after(num_ends, places=10) == header
