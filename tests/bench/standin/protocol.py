"""What vLLM 0.32's client and engine core tell each other over ZMQ, as msgpack.

The shapes are vLLM's own (`vllm/v1/engine/__init__.py`, `v1/engine/utils.py`), so far as a core
that computes nothing needs them: importing vLLM itself takes a core many seconds. Structs that
travel as arrays have vLLM's order of fields; `tests/engine/test_standin.py` holds them to it.
"""

from typing import Any

import msgspec

ADD, ABORT, UTILITY = b"\x00", b"\x01", b"\x03"
"""First frame of what a client sends."""

LENGTH = 1
"""Finish reason of a request that has had its `max_tokens`."""

QUEUED, SCHEDULED = 1, 2
"""Events in a request's life."""


class Sampling(msgspec.Struct):
    """Of vLLM's SamplingParams, a map."""

    max_tokens: int = 16


class Request(msgspec.Struct, array_like=True):
    """What follows ADD: the first fields of vLLM's EngineCoreRequest."""

    request_id: str
    prompt_token_ids: list[int]
    mm_features: Any
    sampling_params: Sampling


class Call(msgspec.Struct, array_like=True):
    """What follows UTILITY: a method of the core that is to be called."""

    client_index: int
    call_id: int
    method: str
    arguments: Any


class Event(msgspec.Struct):
    type: int
    timestamp: float


class PrefillStats(msgspec.Struct):
    num_prompt_tokens: int
    num_computed_tokens: int
    num_cached_tokens: int = 0
    num_local_cached_tokens: int = 0
    num_external_cached_tokens: int = 0
    num_cache_creation_tokens: int = 0


class Output(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """One request's part of a step: vLLM's EngineCoreOutput."""

    request_id: str
    new_token_ids: tuple[int, ...]
    new_logprobs: None = None
    new_prompt_logprobs_tensors: None = None
    pooling_output: None = None
    finish_reason: int | None = None
    stop_reason: None = None
    events: list[Event] | None = None
    kv_transfer_params: None = None
    ec_transfer_params: None = None
    trace_headers: None = None
    prefill_stats: PrefillStats | None = None


class CacheStats(msgspec.Struct, frozen=True):
    reset: bool = False
    requests: int = 0
    queries: int = 0
    hits: int = 0
    preempted_requests: int = 0
    preempted_queries: int = 0
    preempted_hits: int = 0
    hits_by_source: dict[str, int] = {}


class SchedulerStats(msgspec.Struct):
    """What a core says of itself in every step; vLLM's Rust frontend wants each field."""

    num_running_reqs: int
    num_waiting_reqs: int = 0
    num_skipped_waiting_reqs: int = 0
    num_kv_fetch_reqs_by_stage: dict[str, int] = {}
    step_counter: int = 0
    current_wave: int = 0
    kv_cache_usage: float = 0.0
    iteration_details: None = None
    prefix_cache_stats: CacheStats = CacheStats()
    connector_prefix_cache_stats: None = None
    kv_cache_eviction_events: tuple[()] = ()
    spec_decoding_stats: None = None
    kv_connector_stats: None = None
    ec_connector_stats: None = None
    waiting_lora_adapters: dict[str, int] = {}
    running_lora_adapters: dict[str, int] = {}
    cudagraph_stats: None = None
    perf_stats: None = None


class UtilityOutput(msgspec.Struct, array_like=True):
    """The answer to a Call. `result` is a pair: vLLM's hint at its type, and itself."""

    call_id: int
    failure_message: str | None
    result: tuple[None, Any] | None


class Outputs(msgspec.Struct, array_like=True, omit_defaults=True):
    """One step: vLLM's EngineCoreOutputs. `timestamp` is of the monotonic clock, in seconds."""

    engine_index: int
    outputs: list[Output]
    scheduler_stats: SchedulerStats | None
    timestamp: float
    utility_output: UtilityOutput | None = None


class Addresses(msgspec.Struct):
    """Where a client listens: for a core's greeting, and for its outputs."""

    inputs: list[str]
    outputs: list[str]


class Welcome(msgspec.Struct):
    """The client's answer to a core's HELLO."""

    addresses: Addresses


class Ready(msgspec.Struct):
    """A core's first words to a client: what it has room for."""

    max_model_len: int
    max_num_seqs: int
    num_gpu_blocks: int = 65536
    block_size: int = 16
    dp_stats_address: None = None
    dtype: str = "bfloat16"
    vllm_version: str = "0.32.0"
    world_size: int = 1
    data_parallel_size: int = 1
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    data_parallel_rank: int = 0
    max_num_batched_tokens: int = 8192
    instance_id: str = "stand-in"
    supports_lora: bool = True
    max_loras: int = 8
    kv_cache_size_tokens: int = 2**20
    kv_cache_max_concurrency: float = 256.0
