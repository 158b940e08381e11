"""The command, up to where Ray would be started."""

import os
import sys

import pytest

import app.cluster.__main__ as command
from app.cluster.environment import prepare_environment


def test_without_ray_it_ends_with_one_sentence_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert command.main() == 2
    assert capsys.readouterr().err == (
        "slipstream: Replicas need Ray, which is not installed: install the extra 'cluster'.\n"
    )


def test_it_refuses_to_listen_openly_without_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    monkeypatch.setattr(command, "prepare_environment", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["cluster", "--host", "0.0.0.0"])

    assert command.main() == 2
    assert capsys.readouterr().err.startswith("slipstream: Listening on 0.0.0.0 without a key")


def test_ray_sends_no_statistics_and_asks_for_a_new_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = set()
    for _ in range(2):
        monkeypatch.setattr(os, "environ", {})
        prepare_environment()
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_AUTH_MODE"] == "token"
        tokens.add(os.environ["RAY_AUTH_TOKEN"])

    assert [len(token) for token in tokens] == [64, 64]


def test_a_cluster_that_is_joined_keeps_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "theirs"})

    prepare_environment()

    assert os.environ["RAY_AUTH_TOKEN"] == "theirs"
    assert "RAY_AUTH_MODE" not in os.environ
