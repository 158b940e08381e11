import random

import pytest

from app.keys.bucket import Bucket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_taken_comes_back_steadily(clock: Clock) -> None:
    bucket = Bucket(60, clock)

    bucket.take(60)

    assert (bucket.level, bucket.seconds_until(1), bucket.seconds_until(30)) == (0, 1, 30)
    clock.now = 10
    assert (bucket.level, bucket.seconds_until(1), bucket.seconds_until(30)) == (10, 0, 20)
    clock.now = 1000
    assert bucket.level == 60


def test_what_is_given_back_is_never_more_than_the_limit(clock: Clock) -> None:
    bucket = Bucket(60, clock)

    bucket.take(50)
    clock.now = 30
    bucket.take(-50)

    assert bucket.level == 60


def test_what_is_larger_than_the_limit_waits_for_all_of_it_and_leaves_a_debt(clock: Clock) -> None:
    bucket = Bucket(60, clock)
    bucket.take(6)

    assert bucket.seconds_until(600) == 6
    clock.now = 6
    assert bucket.seconds_until(600) == 0
    bucket.take(600)
    assert bucket.seconds_until(1) == 541


def test_another_limit_does_not_give_back_what_was_used(clock: Clock) -> None:
    bucket = Bucket(60, clock)
    bucket.take(50)

    bucket.resize(100)
    assert bucket.level == 50
    bucket.resize(20)
    assert bucket.level == -30


def test_no_more_goes_through_than_the_saved_minute_and_the_time_that_has_passed(
    clock: Clock,
) -> None:
    chance = random.Random(5)
    for _ in range(50):
        clock.now = 0
        limit = chance.randint(1, 1000)
        bucket, taken = Bucket(limit, clock), 0
        for _ in range(200):
            clock.now += chance.random() * 3
            amount = chance.randint(1, limit)
            if bucket.seconds_until(amount) == 0:
                bucket.take(amount)
                taken += amount
        assert 0 < taken <= limit * (1 + clock.now / 60) + 1e-6
