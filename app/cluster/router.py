"""The order in which Ray Serve tries replicas: `affinity.py` over what is in flight.

Runs where the handle is, in the front's process.
"""

from collections import Counter

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from app.cluster.affinity import ranked


class AffinityRouter(RequestRouter):  # type: ignore[misc]
    """Prefers the replica that the request's session id stands for; see `affinity.ranked`."""

    def initialize_state(self, *, limit: int) -> None:
        """`limit`: requests in flight from which on a replica is no longer preferred."""
        self._limit = limit
        self._in_flight: Counter[ReplicaID] = Counter()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Every replica, each a rank of its own; the next one is tried when one is full."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        in_flight = {name: self._in_flight[each.replica_id] for name, each in replicas.items()}
        order = ranked(pending_request.metadata.session_id, in_flight, self._limit)
        return [[replicas[name]] for name in order]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        super().on_send_request(replica_id)
        self._in_flight[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Also called for requests that the replica rejected, and for those that died with it."""
        super().on_request_completed(replica_id, internal_request_id)
        self._in_flight[replica_id] -= 1
        if self._in_flight[replica_id] <= 0:
            del self._in_flight[replica_id]
