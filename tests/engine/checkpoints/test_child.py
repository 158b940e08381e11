import io
import multiprocessing

import pytest

from app.engine.checkpoints.child import Report, run_in_child
from app.engine.checkpoints.unusable import CheckpointUnusable
from tests.engine.checkpoints.endless import endless


def fail(report: Report, message: str) -> None:
    raise CheckpointUnusable(message)


def add(report: Report, left: int, right: int) -> int:
    report(5, 10)
    report(10, 10)
    return left + right


def test_a_result_comes_back_and_progress_is_drawn() -> None:
    stream = io.StringIO()

    assert run_in_child("a sum", stream, add, 1, right=2) == 3
    assert stream.getvalue() == "  a sum: 50 % of 10.0B\n  a sum: 100 % of 10.0B\n"


def test_a_failure_is_raised_with_its_sentence() -> None:
    with pytest.raises(CheckpointUnusable, match=r"^It did not work\.$"):
        run_in_child("some work", io.StringIO(), fail, "It did not work.")


def test_work_whose_process_is_ended_fails_with_a_sentence() -> None:
    class Ending(io.StringIO):
        """Ends the child as soon as it has told how far it is, as the server does on SIGTERM."""

        def write(self, text: str) -> int:
            for process in multiprocessing.active_children():
                process.terminate()
            return super().write(text)

    with pytest.raises(CheckpointUnusable, match="some work: its process ended with -15"):
        run_in_child("some work", Ending(), endless)
