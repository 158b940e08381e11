"""The stand-in for vLLM's engine core, of the benches, speaks the protocol of this vLLM."""

import dataclasses
import warnings
from typing import Any

import msgspec

from tests.bench.standin import protocol

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm import SamplingParams
    from vllm.v1.engine import (
        EngineCoreEvent,
        EngineCoreEventType,
        EngineCoreOutput,
        EngineCoreOutputs,
        EngineCoreReadyResponse,
        EngineCoreRequest,
        EngineCoreRequestType,
        FinishReason,
        UtilityOutput,
    )
    from vllm.v1.metrics.stats import PrefillStats, SchedulerStats
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder, UtilityResult


def sent(message: Any) -> EngineCoreOutputs:
    """As a client reads it."""
    outputs: EngineCoreOutputs = MsgpackDecoder(EngineCoreOutputs).decode(
        msgspec.msgpack.encode(message)
    )
    return outputs


def test_a_step_is_read_by_vllm() -> None:
    first = protocol.Output(
        "a",
        (7,),
        events=[protocol.Event(protocol.QUEUED, 1.0), protocol.Event(protocol.SCHEDULED, 2.0)],
        prefill_stats=protocol.PrefillStats(5, 5),
    )
    last = protocol.Output("b", (8,), finish_reason=protocol.LENGTH)
    assert sent(protocol.Outputs(0, [first, last], protocol.SchedulerStats(2), 3.0)) == (
        EngineCoreOutputs(
            outputs=[
                EngineCoreOutput(
                    "a",
                    [7],
                    events=[
                        EngineCoreEvent(EngineCoreEventType.QUEUED, 1.0),
                        EngineCoreEvent(EngineCoreEventType.SCHEDULED, 2.0),
                    ],
                    prefill_stats=PrefillStats(5, 5),
                ),
                EngineCoreOutput("b", [8], finish_reason=FinishReason.LENGTH),
            ],
            scheduler_stats=SchedulerStats(num_running_reqs=2),
            timestamp=3.0,
        )
    )


def test_what_a_core_says_of_itself_has_every_field() -> None:
    mine = {field.name for field in msgspec.structs.fields(protocol.SchedulerStats)}
    assert mine == {field.name for field in dataclasses.fields(SchedulerStats)}


def test_an_answer_to_a_call_is_read_by_vllm() -> None:
    answer = protocol.UtilityOutput(9, None, (None, True))
    read = sent(protocol.Outputs(0, [], None, 3.0, answer)).utility_output
    assert isinstance(read, UtilityOutput)
    assert isinstance(read.result, UtilityResult)
    assert (read.call_id, read.failure_message, read.result.result) == (9, None, True)


def test_the_first_words_are_read_by_vllm() -> None:
    words = msgspec.msgpack.encode(protocol.Ready(8192, 256))
    read = msgspec.msgpack.decode(words, type=EngineCoreReadyResponse)
    assert (read.max_model_len, read.max_num_seqs, read.dp_stats_address) == (8192, 256, None)


def test_a_request_of_vllm_is_read() -> None:
    sampling = SamplingParams(max_tokens=5, temperature=0, ignore_eos=True)
    request = EngineCoreRequest("a", [1, 2], None, sampling, None, 0.0, None, None, None)
    (data,) = MsgpackEncoder().encode(request)
    read = msgspec.msgpack.decode(data, type=protocol.Request)
    assert read == protocol.Request("a", [1, 2], None, protocol.Sampling(5))


def test_the_kinds_of_messages_are_those_of_vllm() -> None:
    kinds = [protocol.ADD, protocol.ABORT, protocol.UTILITY]
    names = ("ADD", "ABORT", "UTILITY")
    assert kinds == [EngineCoreRequestType[name].value for name in names]
