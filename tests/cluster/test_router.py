"""The order that Ray Serve is told, with Ray's own base class and without a cluster."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ray.serve._private.common import DeploymentHandleSource, DeploymentID
    from ray.serve.request_router import ReplicaID

    from app.cluster.router import AffinityRouter

DEPLOYMENT = DeploymentID("Replica", "slipstream")
IDS = {name: ReplicaID(name, DEPLOYMENT) for name in ("a", "b")}
REPLICAS: Any = [SimpleNamespace(replica_id=each) for each in IDS.values()]


@pytest.fixture
def router() -> Any:
    made = AffinityRouter(DEPLOYMENT, DeploymentHandleSource.UNKNOWN)
    made.initialize_state(limit=2)
    return made


def asked(session: str) -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(session_id=session),
        routing_context=SimpleNamespace(should_backoff=False),
    )


async def order(router: Any, session: str) -> list[str]:
    ranks = await router.choose_replicas(REPLICAS, asked(session))
    assert all(len(rank) == 1 for rank in ranks)
    return [rank[0].replica_id.unique_id for rank in ranks]


async def test_a_session_goes_elsewhere_only_while_its_replica_is_full(router: Any) -> None:
    first, second = await order(router, "anne")
    router.on_send_request(IDS[first])
    assert await order(router, "anne") == [first, second]

    router.on_send_request(IDS[first])
    assert await order(router, "anne") == [second, first]

    router.on_request_completed(IDS[first], "some request")
    assert await order(router, "anne") == [first, second]


async def test_without_a_session_the_least_loaded_is_first(router: Any) -> None:
    router.on_send_request(IDS["a"])
    assert await order(router, "") == ["b", "a"]

    router.on_request_completed(IDS["a"], "some request")
    router.on_send_request(IDS["b"])
    assert await order(router, "") == ["a", "b"]


async def test_ray_waits_between_rounds_over_full_replicas(router: Any) -> None:
    request = asked("anne")
    await router.choose_replicas(REPLICAS, request)

    assert request.routing_context.should_backoff
