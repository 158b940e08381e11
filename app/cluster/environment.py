"""Environment variables that Ray reads when it is imported, which is not here."""

import os
import secrets

SERVE_VARIABLES = {
    # With 64 streams a message of a reply costs the front 207 µs through Ray's object references,
    # 164 over gRPC, 63 with no thread between the event loops; the replica 155, 69 and 53.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # A request is one message, and its size is limited by the front.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
}
"""Replicas need them as well as the front."""


def joins_cluster() -> bool:
    """Whether there is a cluster of others to run in, by Ray's own variable."""
    return bool(os.environ.get("RAY_ADDRESS"))


def prepare_environment() -> None:
    """No usage statistics; and a token, since the ports of Ray listen on every address.

    The token is new at each start. A cluster of others has its own rules. Call it before Ray is
    imported.
    """
    os.environ.update(SERVE_VARIABLES)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not joins_cluster():
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
