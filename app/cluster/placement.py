"""Settings and what a cluster has to what Ray sets aside for a replica. Knows no Ray."""

import math
from collections.abc import Mapping
from typing import Any

from app.cluster.environment import SERVE_VARIABLES
from app.configuration import ConfigurationError
from app.settings import Settings

RUNTIME = {"env_vars": SERVE_VARIABLES}


def check_room(settings: Settings, available: Mapping[str, float]) -> None:
    """Raises ConfigurationError for what Ray would wait for in silence."""
    if settings.max_replicas < settings.min_replicas:
        raise ConfigurationError("'max_replicas' must not be less than 'min_replicas'.")
    for name, needed in (("CPU", settings.replica_cpus), ("GPU", num_gpus(settings, available))):
        total = needed * settings.min_replicas
        if total > available.get(name, 0):
            raise ConfigurationError(
                f"{settings.min_replicas} replicas need {total:g} {name}s, and the cluster has "
                f"{available.get(name, 0):g}: see 'min_replicas' and 'replica_cpus'."
            )


def num_gpus(settings: Settings, available: Mapping[str, float]) -> int:
    """GPUs of one replica: none where there are none."""
    if not available.get("GPU"):
        return 0
    return math.prod(
        (
            settings.tensor_parallel_size,
            settings.pipeline_parallel_size,
            settings.data_parallel_size,
        )
    )


def placement(settings: Settings, available: Mapping[str, float]) -> dict[str, Any]:
    """What Ray sets aside for a replica.

    vLLM's Ray executor looks for its GPUs in the placement group of the actor that it is in, and
    may take them from several machines; otherwise they are the replica's own.
    """
    gpus = num_gpus(settings, available)
    cpus = settings.replica_cpus
    if settings.distributed_executor_backend == "ray" and gpus:
        bundles = [{"CPU": cpus}] + [{"GPU": 1.0}] * gpus
        return {
            "ray_actor_options": {"num_cpus": cpus, "runtime_env": RUNTIME},
            "placement_group_bundles": bundles,
            "placement_group_strategy": "PACK",
        }
    return {"ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus, "runtime_env": RUNTIME}}
