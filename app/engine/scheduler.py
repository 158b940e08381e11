"""What the engine core is made to load of ours: `scheduler_cls` names the function below."""

import copy
import os
from collections.abc import Callable
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import SchedulerInterface
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs

from app.engine.constraints import backend
from app.engine.environment import MAX_LORAS

LOADED = (backend,)
"""Importing it is what puts it in the place of vLLM's."""


def scheduler(**arguments: Any) -> SchedulerInterface:
    """The scheduler that vLLM would have chosen, which leaves pinned adapters their places.

    vLLM's knows nothing of them: a batch of as many adapters as there are places evicts those that
    it needs itself, and the engine ends (vLLM 0.32, `convert_mapping`).
    """
    config = arguments["vllm_config"].scheduler_config
    made = (AsyncScheduler if config.async_scheduling else Scheduler)(**arguments)
    if made.lora_config is not None:
        made.lora_config = copy.copy(made.lora_config)
        made.lora_config.max_loras = int(os.environ[MAX_LORAS])
    if arguments["vllm_config"].parallel_config._api_process_count > 1:
        made.update_from_output = telling_the_first(made.update_from_output)
    return made


OutputsByClient = dict[int, EngineCoreOutputs]


def telling_the_first(update: Callable[..., OutputsByClient]) -> Callable[..., OutputsByClient]:
    """`Scheduler.update_from_output`, whose figures always go to client 0.

    vLLM tells them to whichever client a step has outputs for: gauges of all the others then stay
    at what they were told last, and no sum of them is true.
    """

    def updated(*arguments: Any) -> OutputsByClient:
        outputs = update(*arguments)
        told = next((each for each in outputs.values() if each.scheduler_stats is not None), None)
        if told is not None and outputs.get(0) is not told:
            first = outputs.setdefault(0, EngineCoreOutputs())
            first.scheduler_stats, told.scheduler_stats = told.scheduler_stats, None
        return outputs

    return updated
