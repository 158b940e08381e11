"""Settings to a running Ray Serve application: a cluster of this machine, or one that is joined."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from app.cluster.environment import joins_cluster
from app.cluster.placement import check_room, placement
from app.cluster.ray_fleet import APPLICATION
from app.cluster.replica import Replica
from app.cluster.router import AffinityRouter
from app.settings import Settings

OBJECT_STORE_BYTES = 128 * 2**20
"""Only what is larger than 100 KB goes there: long bodies, for the time of a request."""

LOOPBACK = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the address that other machines see."""

HEALTH_SECONDS = 0.5
"""Serve asks three times before it replaces a replica whose engine has died."""

PROBES = 64
"""Requests beyond `max_in_flight` that a replica is given, since it answers probes even then."""

START_ATTEMPTS = 2


@contextmanager
def running_cluster(settings: Settings) -> Iterator[DeploymentHandle[Any]]:
    """Replicas that are being started; they end with the block.

    With RAY_ADDRESS set they run in that cluster, else in one of this machine's own. Raises
    ConfigurationError if they do not fit into it.
    """
    if joins_cluster():
        ray.init(log_to_driver=False)
    else:
        start_ray()
    try:
        check_room(settings, ray.cluster_resources())
        yield start_replicas(settings)
    finally:
        stop()


def start_ray() -> None:
    """Without a dashboard.

    A replica's process group dies with it: a killed one cannot end its engine's processes itself.
    Ray's memory monitor is off: it would end replicas for what other programs of the machine use.
    """
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address=LOOPBACK,
        _system_config={"process_group_cleanup_enabled": True, "memory_monitor_refresh_ms": 0},
    )


def start_replicas(settings: Settings) -> DeploymentHandle[Any]:
    """Ask Serve for replicas, without waiting for their models, and without its HTTP proxy."""
    logging = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(proxy_location="Disabled", logging_config=logging)
    options = deployment_options(settings) | placement(settings, ray.cluster_resources())
    deployment = serve.deployment(name="Replica", logging_config=logging, **options)(Replica)
    application = deployment.bind(from_anywhere(settings))
    target = serve.RunTarget(application, name=APPLICATION, route_prefix=None)
    [handle] = serve.run_many([target], wait_for_applications_running=False)
    return handle


def deployment_options(settings: Settings) -> dict[str, Any]:
    """How many replicas, when more, and what a replica may take."""
    return {
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.replica_in_flight,
        },
        "request_router_config": {
            "request_router_class": AffinityRouter,
            "request_router_kwargs": {"limit": preferred_in_flight(settings)},
        },
        "max_ongoing_requests": settings.max_in_flight + PROBES,
        "graceful_shutdown_timeout_s": settings.drain_seconds,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": HEALTH_SECONDS,
        "max_constructor_retry_count": START_ATTEMPTS,
    }


def preferred_in_flight(settings: Settings) -> int:
    """Requests in flight up to which affinity counts more than load."""
    return min(settings.replica_in_flight, settings.max_in_flight)


def from_anywhere(settings: Settings) -> Settings:
    """In a cluster of others the working directory is another."""
    if not settings.log_dir:
        return settings
    return msgspec.structs.replace(settings, log_dir=str(Path(settings.log_dir).resolve()))


def stop() -> None:
    """Let replicas finish and end, and leave a cluster of others' as it was.

    There may be nothing left to do: `RayFleet.close` comes first, if it came to serving.
    """
    if joins_cluster():
        serve.delete(APPLICATION)
    else:
        serve.shutdown()
    ray.shutdown()
