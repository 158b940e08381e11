"""CORS headers for replies that never reach the framework, which adds them to all others."""

from collections.abc import Mapping
from types import MappingProxyType

from litestar.config.cors import CORSConfig
from litestar.types import HTTPScope

from app.settings import Settings

KINDS = ("requests", "tokens")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


READABLE = [
    "idempotent-replayed",
    "retry-after",
    *(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in KINDS),
    "x-cache",
    "x-ignored-params",
    "x-request-id",
    "x-schema-aliases",
    "x-schema-checked-after",
]
"""Headers of ours that pages may see; browsers hide from them all but a few of HTTP's own."""


def cors_config(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(list(settings.cors_origins), expose_headers=READABLE)


def cors_headers(cors: CORSConfig | None, scope: HTTPScope) -> Mapping[str, str]:
    """What lets a page of an allowed origin read why it was refused."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    if cors is None or not origins:
        return NO_HEADERS
    origin = origins[0].decode("latin-1")
    if cors.is_allow_all_origins or not cors.is_origin_allowed(origin):
        return cors.simple_headers
    return {**cors.simple_headers, "access-control-allow-origin": origin, "vary": "Origin"}
