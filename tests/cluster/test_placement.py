import pytest

from app.cluster.placement import check_room, placement
from app.configuration import ConfigurationError
from app.settings import Settings

CPUS = {"CPU": 4.0}
GPUS = {"CPU": 64.0, "GPU": 8.0}


def test_without_gpus_a_replica_takes_cpus() -> None:
    settings = Settings(replica_cpus=0.5, tensor_parallel_size=2)

    options = placement(settings, CPUS)["ray_actor_options"]
    assert (options["num_cpus"], options["num_gpus"]) == (0.5, 0)


def test_a_replica_takes_a_gpu_for_each_of_its_workers() -> None:
    settings = Settings(tensor_parallel_size=2, pipeline_parallel_size=2)

    assert placement(settings, GPUS)["ray_actor_options"]["num_gpus"] == 4


def test_for_the_ray_executor_gpus_lie_in_a_placement_group_beside_the_replica() -> None:
    settings = Settings(distributed_executor_backend="ray", tensor_parallel_size=2)

    placed = placement(settings, GPUS)

    assert placed["placement_group_bundles"] == [{"CPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}]
    assert placed["ray_actor_options"]["num_cpus"] == 1.0
    assert "num_gpus" not in placed["ray_actor_options"]


def test_replicas_that_fit_are_let_in() -> None:
    check_room(Settings(min_replicas=4, max_replicas=4), CPUS)
    check_room(Settings(min_replicas=2, tensor_parallel_size=4), GPUS)


@pytest.mark.parametrize(
    ("settings", "available", "sentence"),
    [
        (Settings(min_replicas=3), CPUS, "'max_replicas' must not be less than 'min_replicas'."),
        (Settings(min_replicas=2, replica_cpus=3), CPUS, "2 replicas need 6 CPUs, and the cluster"),
        (Settings(tensor_parallel_size=16), GPUS, "1 replicas need 16 GPUs, and the cluster has 8"),
    ],
)
def test_replicas_that_do_not_fit_are_refused_in_one_sentence(
    settings: Settings, available: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        check_room(settings, available)
