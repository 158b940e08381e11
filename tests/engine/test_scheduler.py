"""What our scheduler changes of vLLM's, without an engine."""

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]  # of vLLM's imports


@pytest.mark.parametrize("clients", [(0,), (1,), (1, 0), (2, 1), ()])
def test_the_first_client_is_told_of_the_scheduler_whoever_has_outputs(
    clients: tuple[int, ...],
) -> None:
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.metrics.stats import SchedulerStats

    from app.engine.scheduler import telling_the_first

    stats = SchedulerStats(num_running_reqs=3)
    outputs = {client: EngineCoreOutputs(finished_requests={str(client)}) for client in clients}
    for told in [*outputs.values()][:1]:
        told.scheduler_stats = stats

    updated = telling_the_first(lambda step: outputs)("a step")

    told_of = {client: each.scheduler_stats for client, each in updated.items()}
    assert told_of == (dict.fromkeys((*clients, 0)) | {0: stats} if clients else {})
    assert all(updated[client].finished_requests == {str(client)} for client in clients)
