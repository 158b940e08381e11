"""The harness itself: what it is there to notice, it notices."""

import signal
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.scorecard.conftest import MOST_GAP_SECONDS, assert_canary, assert_memory, assert_pulse
from tests.scorecard.target import Pulse, our_server

END_SECONDS = 30


def test_server_that_stands_still_and_one_that_is_gone_are_noticed(tmp_path: Path) -> None:
    with our_server() as target, closing(Pulse(target, tmp_path / "pulse")) as pulse:
        process = psutil.Process(target.pid)
        pulse.until_beat(5)
        since = pulse.answers(0)[-1].answered
        assert_pulse(pulse, since)

        process.send_signal(signal.SIGSTOP)
        with pytest.raises(AssertionError, match="no answer any more"):
            pulse.until_beat(2 * MOST_GAP_SECONDS)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(AssertionError, match="no sign of life"):
            assert_pulse(pulse, since)
        assert_canary(target)

        process.kill()
        with pytest.raises(AssertionError, match="no answer any more"):
            pulse.until_beat(2 * MOST_GAP_SECONDS)
        process.wait(END_SECONDS)
        assert not target.is_alive


def test_memory_that_is_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.scorecard.conftest.SETTLE_SECONDS", 0.1)
    with our_server() as target:
        assert_memory(target, target.memory_bytes + 2**20)
        with pytest.raises(AssertionError, match="above what is allowed"):
            assert_memory(target, target.memory_bytes - 2**20)
