import random
from collections import Counter

import pytest

from app.queueing.backlog import Backlog, NoRoom, Room
from app.queueing.tier import Ticket

HIGH, NORMAL, LOW = range(3)


def ticket(owner: str = "", tier: int = NORMAL, places: int = 1, tokens: int = 10) -> Ticket:
    return Ticket(
        owner=owner,
        tier=tier,
        places=places,
        prompt_tokens=tokens,
        cost=tokens + places,
        arrived=0.0,
    )


def backlog(
    *tickets: Ticket, places: int = 10**6, tokens: int = 10**9, max_overtaking: int = 10**6
) -> Backlog:
    made = Backlog(Room(places, tokens), 3, max_overtaking)
    for each in tickets:
        made.add(each)
    return made


def popped(waiting: Backlog, count: int | None = None) -> list[Ticket]:
    """So many in the order in which they go, or all."""
    gone = []
    while waiting and len(gone) != count:
        gone.append(waiting.first)
        waiting.pop(gone[-1])
    return gone


def test_one_owner_is_served_first_come_first_served() -> None:
    tickets = [ticket() for _ in range(5)]

    assert popped(backlog(*tickets)) == tickets


def test_more_urgent_goes_first() -> None:
    low, normal, high = (ticket(tier=tier) for tier in (LOW, NORMAL, HIGH))

    assert popped(backlog(low, normal, high)) == [high, normal, low]


def test_another_owner_s_one_request_waits_for_one_of_ten_thousand() -> None:
    waiting = backlog(*(ticket("flood") for _ in range(10_000)))
    popped(waiting, 50)
    single = ticket("other")
    waiting.add(single)

    assert single in popped(waiting, 2)


def test_owners_share_by_tokens_not_by_requests() -> None:
    """Requests of 1,000 tokens against such of 100: ten times as many of the latter."""
    waiting = backlog(
        *(ticket("large", tokens=999) for _ in range(100)),
        *(ticket("small", tokens=99) for _ in range(1000)),
    )

    gone = Counter(each.owner for each in popped(waiting, 220))

    assert gone["small"] == pytest.approx(200, abs=10)
    assert gone["large"] == pytest.approx(20, abs=1)


def test_what_owners_are_charged_differs_by_two_requests_at_most() -> None:
    """For whoever waits all the time, at every moment."""
    rng = random.Random(1)
    sizes = {"a": 10, "b": 300, "c": 50}
    waiting = backlog(
        *(
            ticket(owner, tokens=rng.randint(1, most))
            for owner, most in sizes.items()
            for _ in range(500)
        )
    )
    served: Counter[str] = Counter()
    for each in popped(waiting, 300):
        served[each.owner] += each.cost
        assert max(served.values()) - min(served[owner] for owner in sizes) <= 2 * 301


def test_time_alone_is_neither_owed_nor_saved_up() -> None:
    waiting = backlog(*(ticket("first") for _ in range(1000)))
    popped(waiting)
    for _ in range(20):
        waiting.add(ticket("first"))
        waiting.add(ticket("late"))

    owners = [each.owner for each in popped(waiting, 20)]

    assert Counter(owners)["first"] == pytest.approx(10, abs=1)


def test_tokens_that_were_not_generated_are_given_back() -> None:
    """Both ask for as much; one's replies are always short."""
    waiting = backlog()
    for _ in range(200):
        waiting.add(ticket("short", tokens=1000))
        waiting.add(ticket("long", tokens=1000))
    gone: Counter[str] = Counter()
    for _ in range(110):
        (each,) = popped(waiting, 1)
        gone[each.owner] += 1
        if each.owner == "short":
            waiting.tiers[each.tier].give_back(each, 900)

    assert gone["short"] > 5 * gone["long"]


@pytest.mark.parametrize("tiers", [(HIGH, LOW), (NORMAL, LOW), (HIGH, NORMAL)])
def test_less_urgent_gets_its_turn_at_last(tiers: tuple[int, int]) -> None:
    urgent, patient = tiers
    waiting = backlog(*(ticket(tier=urgent) for _ in range(100)), max_overtaking=16)
    for _ in range(3):
        waiting.add(ticket(tier=patient))

    gone = [each.tier for each in popped(waiting, 51)]

    assert [place for place, tier in enumerate(gone) if tier == patient] == [16, 33, 50]


def test_all_tiers_get_on_under_a_flood_of_the_most_urgent() -> None:
    waiting = backlog(
        *(ticket(tier=tier) for tier in (HIGH, NORMAL, LOW) for _ in range(500)), max_overtaking=16
    )

    gone = Counter(each.tier for each in popped(waiting, 180))

    assert gone[HIGH] >= 150
    assert gone[NORMAL] >= 9
    assert gone[LOW] >= 9


def test_who_has_been_overtaken_often_enough_is_told_apart() -> None:
    waiting = backlog(ticket(tier=LOW), *(ticket() for _ in range(3)), max_overtaking=2)

    assert [waiting.pop(waiting.first) for _ in range(4)] == [False, False, True, False]


def test_newest_of_whoever_has_most_yields_to_another_owner() -> None:
    flood = [ticket("flood") for _ in range(9)]
    waiting = backlog(*flood, ticket("other"), places=10)

    assert waiting.yielding_to(ticket("third")) == [flood[-1]]
    assert waiting.yielding_to(ticket("other")) == [flood[-1]]
    assert waiting.yielding_to(ticket("third", tokens=1, places=3)) == flood[:-4:-1]
    with pytest.raises(NoRoom):
        waiting.yielding_to(ticket("flood"))


def test_nobody_yields_to_an_owner_who_would_have_as_much() -> None:
    waiting = backlog(*(ticket(name) for name in "aabb"), places=4)

    with pytest.raises(NoRoom):
        waiting.yielding_to(ticket("a"))
    assert waiting.yielding_to(ticket("c"))


def test_the_bound_on_tokens_counts_as_the_one_on_requests() -> None:
    hoard = ticket("hoard", tokens=900)
    waiting = backlog(hoard, *(ticket("many", tokens=1) for _ in range(5)), places=100, tokens=1000)

    assert waiting.yielding_to(ticket("third", tokens=200)) == [hoard]


def test_of_the_same_owner_only_what_is_less_urgent_yields() -> None:
    low = [ticket(tier=LOW), ticket(tier=LOW)]
    waiting = backlog(ticket(), *low, places=3)

    assert waiting.yielding_to(ticket()) == [low[1]]
    with pytest.raises(NoRoom):
        waiting.yielding_to(ticket(tier=LOW))
    with pytest.raises(NoRoom):
        waiting.yielding_to(ticket(places=3))


def test_alone_even_what_is_too_large_may_wait() -> None:
    assert backlog(tokens=5).yielding_to(ticket(tokens=6)) == []


def test_asking_who_would_yield_changes_nothing() -> None:
    waiting = backlog(*(ticket("flood") for _ in range(4)), places=4)

    assert waiting.yielding_to(ticket("a")) == waiting.yielding_to(ticket("b"))
    assert waiting.taken.places == 4


def test_estimate_counts_only_what_would_go_before() -> None:
    waiting = backlog(
        *(ticket("flood") for _ in range(50)),
        *(ticket("other") for _ in range(2)),
        *(ticket("flood", tier=LOW) for _ in range(9)),
        ticket("third", tier=HIGH),
    )

    assert waiting.num_before("third", NORMAL) == 1 + 1 + 1
    assert waiting.num_before("other", NORMAL) == 1 + 2 + 3
    assert waiting.num_before("flood", HIGH) == 1
    assert waiting.num_before("flood", LOW) == 53 + 9
