"""B2: no spelling of a path, a method or a host gets past the key."""

import pytest

from tests.scorecard.raw import ask_raw
from tests.scorecard.target import Target

PATHS = (
    "/v1/models",
    "/v1/models/health",
    "/v1/health",
    "//v1/models",
    "//v1//models",
    "/v1//models",
    "/v1/models/",
    "/v1/models;x",
    "/v1/models?/health",
    "/v1%2Fmodels",
    "/%76%31/models",
    "/V1/models",
    "/./v1/models",
    "/health/../v1/models",
    "/health/live/../../v1/models",
    "/health%2f..%2fv1%2fmodels",
    "/health;/../v1/models",
    "/health%00/v1/models",
    "/docs/../v1/models",
    "http://x/v1/models",
    "http://x//v1/models",
    "/metrics",
    "/docs/openapi.json",
    "*",
)
CHAT = "chat/completions"
HOSTS = ("x", "localhost/v1/models?", "x/health", "x#", "", "x:80/health")
REFUSED = (400, 401, 403, 404, 405, 422)


@pytest.fixture(autouse=True)
def keyed(target: Target) -> None:
    if not target.key:
        pytest.skip("the target needs no key")


@pytest.mark.parametrize("path", [*PATHS, *(each.replace("models", CHAT) for each in PATHS)])
def test_b2_no_spelling_of_a_path_opens_it(target: Target, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
        assert_closed(target, path, method, "x")


@pytest.mark.parametrize("host", HOSTS)
def test_b2_no_host_opens_a_path(target: Target, host: str) -> None:
    assert_closed(target, "/v1/models", "GET", host)


def assert_closed(target: Target, path: str, method: str, host: str) -> None:
    """Refused, or for OPTIONS told nothing but methods."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += ["Content-Type: application/json", "Content-Length: 2", "", "{}"]
    reply = ask_raw(target.url, ["\r\n".join(lines).encode()])
    assert reply.status in REFUSED, reply.head
