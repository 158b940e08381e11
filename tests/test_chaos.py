"""The chaos harness itself: what it is there to notice, it notices."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tests.bench.chaos.faults import Fault
from tests.bench.chaos.reconcile import differences
from tests.bench.chaos.records import Record
from tests.bench.chaos.report import report
from tests.bench.chaos.samples import Sample, growth
from tests.bench.chaos.verdict import MIB, Run, findings

ANSWERED = Record("a", "chat", 0, outcome="answered", status=200, tokens=5)
FAILED = Record("b", "stream", 0, outcome="failed", status=200)
LEFT = Record("c", "chat", 0, outcome="left")
SAMPLE = Sample(0, 0, 100 * MIB, 50, 20, 0, 0)
LINE = {"route": "/chat", "status": 200, "error": None, "completion_tokens": 5, "key": "k"}
LINES = [
    LINE | {"request_id": "a"},
    LINE | {"request_id": "b", "error": "engine_dead", "completion_tokens": 2},
]
METRICS = """
# TYPE slipstream_http_requests_total counter
slipstream_http_requests_total{method="POST",route="/chat",status="200"} 2.0
slipstream_http_requests_total{method="GET",route="/health/ready",status="503"} 9.0
# TYPE slipstream_key_tokens_total counter
slipstream_key_tokens_total{key="k",kind="completion"} 7.0
slipstream_key_tokens_total{key="k",kind="prompt"} 70.0
# TYPE slipstream_engine_restarts_total counter
slipstream_engine_restarts_total{reason="died"} 1.0
"""
SOUND = Run(
    name="text",
    records=[ANSWERED, FAILED, LEFT],
    faults=[Fault("kill", 1, 30)],
    before=SAMPLE,
    after=SAMPLE,
    samples=[SAMPLE] * 10,
    metrics=METRICS,
    lines=LINES,
    exit_status=0,
    left_behind=[],
)


def changed(line: int, **fields: object) -> list[dict[str, Any]]:
    lines = [dict(each) for each in LINES]
    lines[line].update(fields)
    return lines


def broken(**fields: Any) -> list[str]:
    run = msgspec.structs.replace(SOUND, **fields)
    assert report("title", [(run, findings(run))])
    return [each.claim for each in findings(run) if not each.holds]


def test_a_sound_run_is_found_sound() -> None:
    assert broken() == []
    assert list(differences(SOUND.records, LINES, METRICS)) == []


@pytest.mark.parametrize(
    ("lines", "metrics", "said"),
    [
        (LINES[:1], METRICS, "b (stream, failed): 0 lines"),
        ([*LINES, LINES[0]], METRICS, "a (chat, answered): 2 lines"),
        (changed(0, status=503), METRICS, "a: 200 at the client, 503 in the log"),
        (changed(0, error="engine_dead"), METRICS, "a: answered at the client"),
        (changed(1, error=None), METRICS, "b: failed at the client"),
        (changed(0, completion_tokens=4), METRICS, "a: 5 tokens at the client, 4"),
        (LINES, METRICS.replace('"200"} 2.0', '"200"} 3.0'), "2 in the log, 3 in the metrics"),
        (LINES, METRICS.replace("} 7.0", "} 8.0"), "7 tokens in the log, 8 in the metrics"),
    ],
)
def test_what_does_not_agree_is_told(
    lines: list[Mapping[str, Any]], metrics: str, said: str
) -> None:
    assert any(said in each for each in differences(SOUND.records, lines, metrics))


@pytest.mark.parametrize(
    ("fields", "claim"),
    [
        ({"records": [Record("a", "chat", 0)]}, "every request ends"),
        ({"records": []}, "every request ends"),
        ({"lines": LINES[:1]}, "count the same"),
        ({"faults": []}, "is started again"),
        ({"faults": [Fault("kill", 1)]}, "is started again"),
        ({"lines": changed(1, error="server_error")}, "nothing fails"),
        ({"after": msgspec.structs.replace(SAMPLE, memory=200 * MIB)}, "memory"),
        ({"after": msgspec.structs.replace(SAMPLE, descriptors=80)}, "descriptors"),
        ({"after": msgspec.structs.replace(SAMPLE, threads=80)}, "threads"),
        ({"after": msgspec.structs.replace(SAMPLE, shared=MIB * 100)}, "shared"),
        ({"exit_status": 70}, "ends with 0"),
        ({"left_behind": ["VLLM::EngineCore"]}, "ends with 0"),
    ],
)
def test_what_is_broken_is_found(fields: dict[str, Any], claim: str) -> None:
    assert any(claim in each for each in broken(**fields))


def test_growth_is_what_a_thousand_requests_add() -> None:
    samples = [Sample(n, 100 * n, 7000 * n, 0, 0, 0, 0) for n in range(20)]

    assert growth(samples, "memory") == pytest.approx(70_000)
    assert growth([SAMPLE] * 5, "memory") == 0
