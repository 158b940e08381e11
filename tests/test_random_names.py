"""Names that nobody else has."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from app.random_names import NUM_FETCHED, random_name

DIGITS = re.compile("[0-9a-f]{32}")


def names(number: int) -> list[str]:
    return [random_name() for _ in range(number)]


def test_no_two_are_alike_in_whatever_thread() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [each for some in pool.map(names, [NUM_FETCHED] * 8) for each in some]

    assert len(set(made)) == 8 * NUM_FETCHED
    assert all(map(DIGITS.fullmatch, made))


FORKING = """
import os
from app.random_names import NUM_FETCHED, random_name
random_name()
if child := os.fork():
    os.waitpid(child, 0)
print(*(random_name() for _ in range(NUM_FETCHED)))
"""


def test_a_child_makes_its_own() -> None:
    run = [sys.executable, "-c", FORKING]
    told = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout

    assert len(set(told.split())) == 2 * NUM_FETCHED
