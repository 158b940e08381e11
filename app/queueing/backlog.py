"""All that waits, within its bounds: who goes next, and who yields when there is no more room."""

from collections.abc import Iterator
from itertools import chain

from app.queueing.tier import Ticket, Tier


class NoRoom(Exception):
    """Nothing that waits has to yield to a newcomer."""


class Room:
    """What of a backlog is taken: by everything in it, or by one owner."""

    __slots__ = ("places", "tokens")

    def __init__(self, places: int = 0, tokens: int = 0) -> None:
        self.places = places
        self.tokens = tokens

    def add(self, ticket: Ticket) -> None:
        self.places += ticket.places
        self.tokens += ticket.prompt_tokens

    def remove(self, ticket: Ticket) -> None:
        self.places -= ticket.places
        self.tokens -= ticket.prompt_tokens

    def copy(self) -> "Room":
        return Room(self.places, self.tokens)

    def share_of(self, bounds: "Room") -> float:
        """Of that bound of which it takes more: dominant shares, as in Ghodsi et al., "Dominant
        Resource Fairness", NSDI 2011."""
        return max(self.places / bounds.places, self.tokens / bounds.tokens)


class Backlog:
    """Tickets by priority, then by owner."""

    def __init__(self, bounds: Room, num_tiers: int, max_overtaking: int) -> None:
        """`max_overtaking`: how often in a row something that waits may be overtaken by what is
        more urgent."""
        self.taken = Room()
        self.bounds = bounds
        self.tiers = [Tier() for _ in range(num_tiers)]
        self.places_by_tier = [0] * num_tiers
        self._max_overtaking = max_overtaking
        self._owners: dict[str, Room] = {}
        """Of those who have something waiting."""

    def __bool__(self) -> bool:
        return bool(self._owners)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self.tiers[ticket.tier]

    def add(self, ticket: Ticket) -> None:
        self.tiers[ticket.tier].add(ticket)
        self.places_by_tier[ticket.tier] += ticket.places
        self.taken.add(ticket)
        self._owners.setdefault(ticket.owner, Room()).add(ticket)

    def remove(self, ticket: Ticket) -> None:
        """Raises KeyError if it is not in here."""
        self.tiers[ticket.tier].remove(ticket)
        self.places_by_tier[ticket.tier] -= ticket.places
        self.taken.remove(ticket)
        room = self._owners[ticket.owner]
        room.remove(ticket)
        if not room.places:
            del self._owners[ticket.owner]

    @property
    def first(self) -> Ticket:
        """The next to go; asking does not change it."""
        return self._next_tier().first

    def pop(self, ticket: Ticket) -> bool:
        """Let the first go. Returns whether it had been overtaken so often that it was its turn."""
        tier = self.tiers[ticket.tier]
        waited_out = tier.times_overtaken >= self._max_overtaking
        tier.charge(ticket)
        self.remove(ticket)
        tier.times_overtaken = 0
        for less_urgent in self.tiers[ticket.tier + 1 :]:
            less_urgent.times_overtaken = less_urgent.times_overtaken + 1 if less_urgent else 0
        return waited_out

    def _next_tier(self) -> Tier:
        waiting = [tier for tier in self.tiers if tier]
        passed_over = (t for t in reversed(waiting) if t.times_overtaken >= self._max_overtaking)
        return next(passed_over, waiting[0])

    def num_before(self, owner: str, tier: int) -> int:
        """Tickets that would go before a new one, if all were of one size; a lower bound."""
        more_urgent = sum(self.places_by_tier[:tier])
        return more_urgent + self.tiers[tier].num_before(owner)

    def yielding_to(self, newcomer: Ticket) -> list[Ticket]:
        """What has to leave so that there is room for a newcomer. Raises NoRoom.

        The newest of the owner who takes most of the room yields, as long as that is more than
        the newcomer's owner takes: nobody locks others out by filling the queue. Of the same
        owner, only what is less urgent yields. Alone, even what is larger than the bounds may wait.
        """
        owners = {name: room.copy() for name, room in self._owners.items()}
        mine = owners.setdefault(newcomer.owner, Room())
        mine.add(newcomer)
        total = self.taken.copy()
        total.add(newcomer)
        candidates = {name: self._newest(name, 0) for name in owners}
        candidates[newcomer.owner] = self._newest(newcomer.owner, newcomer.tier + 1)
        victims: list[Ticket] = []
        while total.share_of(self.bounds) > 1 and total.places > newcomer.places:
            owner = max(owners, key=lambda name: owners[name].share_of(self.bounds))
            if owners[owner].share_of(self.bounds) <= mine.share_of(self.bounds):
                owner = newcomer.owner
            victim = next(candidates[owner], None)
            if victim is None:
                raise NoRoom
            victims.append(victim)
            owners[owner].remove(victim)
            total.remove(victim)
        return victims

    def _newest(self, owner: str, most_urgent: int) -> Iterator[Ticket]:
        """An owner's tickets from such a tier on, the least urgent and newest first."""
        tiers = reversed(self.tiers[most_urgent:])
        return chain.from_iterable(tier.newest(owner) for tier in tiers)
