"""The replicas behind a handle of Ray Serve: its errors become ours."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from litestar.types import Message
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from app.cluster.environment import joins_cluster
from app.cluster.exchange import Request
from app.engine.base import Status
from app.errors import CapacityError

logger = logging.getLogger(__name__)

APPLICATION = "slipstream"
BROADCAST_SECONDS = 5.0
"""Within which replicas must answer what all are asked."""

RAY_ERRORS = (RayError, RayServeException)


class RayFleet:
    """A `fleet.Fleet` of one deployment."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """Bound to the running event loop: Serve's router works in it."""
        self.status: Status = "loading"
        self.num_ready = 0
        self._handle = handle
        self._streaming = handle.options(method_name="answer", stream=True)

    async def close(self) -> None:
        """In the same event loop. Ends Serve too, unless the cluster is one of others'."""
        if joins_cluster():
            await self._handle.shutdown_async()
        else:
            await serve.shutdown_async()

    async def refresh(self) -> None:
        """Ask Serve's controller; what it does not answer stays as it was."""
        try:
            overview = await asyncio.to_thread(serve.status)
        except RAY_ERRORS as error:
            logger.warning("the state of the replicas is not known: %s", first_line(error))
            return
        if APPLICATION in overview.applications:
            self._take(overview.applications[APPLICATION])

    def _take(self, application: Any) -> None:
        states = [each.replica_states for each in application.deployments.values()]
        before, self.num_ready = self.num_ready, sum(each.get("RUNNING", 0) for each in states)
        if self.num_ready != before:
            logger.info("replicas ready: %d", self.num_ready)
        if self.num_ready:
            self.status = "ready"
        elif application.status == "DEPLOY_FAILED":
            logger.error("no replica could be started; see the logs in replica-*")
            self.status = "failed"

    async def ask(self, request: Request, key: str) -> AsyncGenerator[list[Message], None]:
        """See `fleet.Fleet`.

        A request that a replica has begun is not given to another: what killed the first one may
        have been the request.
        """
        replies: Any = self._streaming.options(session_id=key).remote(request)
        try:
            async for messages in replies:
                yield messages
        except RAY_ERRORS as error:
            raise CapacityError(
                "The replica that worked on this request has failed.", code="replica_failed"
            ) from error
        finally:
            replies.cancel()

    async def ask_all(self, request: Request) -> list[list[Message]]:
        try:
            asked = self._handle.broadcast("answer_whole", request)
            replies = await asked.results_async(timeout_s=BROADCAST_SECONDS, return_exceptions=True)
        except (*RAY_ERRORS, TimeoutError) as error:
            logger.warning("not all replicas answered: %s", first_line(error))
            return []
        return [reply for reply in replies if isinstance(reply, list)]


def first_line(error: Exception) -> str:
    """Of Ray's errors, which are pages long."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
