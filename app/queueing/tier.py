"""Tickets of one priority, and which of them is next. Knows nothing of time, tasks and engines."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from app.errors import ServerError


class Ticket(msgspec.Struct, eq=False, kw_only=True):
    """One generation that wants places in the engine."""

    owner: str
    tier: int
    """0 is the most urgent."""

    places: int
    """Sequences that it runs at once: the `n` of its choices."""

    prompt_tokens: int
    cost: int
    """Tokens that it may take: the prompt's and the most that may be generated."""

    arrived: float
    """On the clock of `time.monotonic`."""

    left: asyncio.Future[None] | None = None
    """Done when it waits no longer."""

    refusal: ServerError | None = None
    """Why it left without a place."""

    has_place: bool = False
    started: float = 0.0
    """When it got its place."""

    waited_out: bool = False
    """It was overtaken so often that it was its turn."""

    @property
    def waited_seconds(self) -> float:
        return self.started - self.arrived


Lane = OrderedDict[Ticket, None]
"""One owner's tickets, the oldest first; any of them can leave at once."""


class Tier:
    """Owners share by tokens; within one owner it is first come, first served.

    Virtual token counters: the next ticket is of the owner that was served the fewest tokens, and
    an owner that comes back begins at the level of those that are there, so that it neither owes
    for the time alone nor has saved up while away. As long as two owners both wait, what they are
    charged never differs by more than two of their largest requests. Sheng et al., "Fairness in
    Serving Large Language Models", OSDI 2024; other than there, all that a request may cost is
    charged when it leaves, and what was not generated is given back at its end.
    """

    def __init__(self) -> None:
        self.times_overtaken = 0
        """How often in a row a less urgent ticket than these waited while another one went."""

        self._lanes: dict[str, Lane] = {}
        self._served: dict[str, int] = {}
        """Tokens by owner; there are as many owners as keys."""

        self._level = 0
        """What the owner of the last ticket to leave had been served before it."""

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._lanes.get(ticket.owner, ())

    def add(self, ticket: Ticket) -> None:
        lane = self._lanes.get(ticket.owner)
        if lane is None:
            self._lift(ticket.owner)
            lane = self._lanes[ticket.owner] = OrderedDict()
        lane[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        """Raises KeyError if it is not in here."""
        lane = self._lanes[ticket.owner]
        del lane[ticket]
        if not lane:
            del self._lanes[ticket.owner]

    @property
    def first(self) -> Ticket:
        """The next to go. Raises ValueError if there is none."""
        owner = min(self._lanes, key=self._served.__getitem__)
        return next(iter(self._lanes[owner]))

    def charge(self, ticket: Ticket) -> None:
        """Count what a ticket that goes may take; one that never waited joins first."""
        if ticket.owner not in self._lanes:
            self._lift(ticket.owner)
        served = self._served[ticket.owner]
        self._level = max(self._level, served)
        self._served[ticket.owner] = served + ticket.cost

    def give_back(self, ticket: Ticket, tokens: int) -> None:
        """Uncount what it did not take."""
        self._served[ticket.owner] -= tokens

    def newest(self, owner: str) -> Iterator[Ticket]:
        """An owner's tickets, the newest first."""
        return reversed(self._lanes.get(owner, OrderedDict()))

    def num_of(self, owner: str) -> int:
        return len(self._lanes.get(owner, ()))

    def num_before(self, owner: str) -> int:
        """Tickets that would go before a new one of this owner, if all were of one size."""
        mine = self.num_of(owner)
        others = (len(lane) for name, lane in self._lanes.items() if name != owner)
        return mine + sum(min(waiting, mine + 1) for waiting in others)

    def _lift(self, owner: str) -> None:
        self._served[owner] = max(self._served.get(owner, 0), self._level)
