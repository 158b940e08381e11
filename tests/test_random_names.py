"""Names that nobody else has."""

import os
import re
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


def test_a_child_makes_its_own() -> None:
    random_name()
    readable, writable = os.pipe()
    if not (child := os.fork()):
        os.write(writable, "".join(names(NUM_FETCHED)).encode())
        os._exit(0)
    os.close(writable)
    told = b""
    while part := os.read(readable, 1 << 16):
        told += part
    os.close(readable)
    os.waitpid(child, 0)

    assert len(told) == 32 * NUM_FETCHED
    assert not {*DIGITS.findall(told.decode())} & {*names(NUM_FETCHED)}
