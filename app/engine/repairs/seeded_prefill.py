"""Seeded requests whose prefill is split, on CPUs.

A prompt whose prefill is split over steps samples tokens that are thrown away. vLLM then winds
the generator of a seeded request back, by an offset that only CUDA generators have: on a CPU this
raises and ends the whole engine (vLLM 0.32, `GPUModelRunner._bookkeeping_sync`). Here the states
of those generators are put back instead, and the rewinding is left out.
"""

from typing import Any

import numpy as np
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

original_sample = CPUModelRunner._sample
original_bookkeeping = CPUModelRunner._bookkeeping_sync


def sample(runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Sample, and leave generators of unfinished prefills as they were."""
    saved = [(gen, gen.get_state()) for gen in discarded_generators(runner).values()]
    try:
        return original_sample(runner, *args, **kwargs)
    finally:
        for generator, state in saved:
            generator.set_state(state)


def keep_books(runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Do the bookkeeping with those generators out of its sight."""
    generators = runner.input_batch.generators
    hidden = discarded_generators(runner)
    for index in hidden:
        del generators[index]
    try:
        return original_bookkeeping(runner, *args, **kwargs)
    finally:
        generators.update(hidden)


def discarded_generators(runner: Any) -> dict[int, torch.Generator]:
    """Generators of requests whose sampled token will be thrown away, by their place."""
    mask = runner.discard_request_mask.np[: runner.input_batch.num_reqs]
    generators = runner.input_batch.generators
    return {int(i): generators[int(i)] for i in np.nonzero(mask)[0] if int(i) in generators}


CPUModelRunner._sample = sample
CPUModelRunner._bookkeeping_sync = keep_books
