"""What the engine core is made to load of ours: `scheduler_cls` names the function below."""

import copy
import os
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import SchedulerInterface
from vllm.v1.core.sched.scheduler import Scheduler

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
    return made
