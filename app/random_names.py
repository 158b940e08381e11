"""Random names of requests and replies.

Entropy is fetched for many at a time: in the midst of a request the system call alone takes longer
than all the rest of making a name.
"""

import os
from collections import deque

NAME_BYTES = 16
NUM_FETCHED = 256

entropy: deque[bytes] = deque()
"""Threads may take from it: each piece goes to one of them."""

os.register_at_fork(after_in_child=entropy.clear)


def random_name() -> str:
    """32 hexadecimal digits that nobody has seen."""
    while True:
        try:
            return entropy.pop().hex()
        except IndexError:
            fetched = memoryview(os.urandom(NAME_BYTES * NUM_FETCHED))
            places = range(0, len(fetched), NAME_BYTES)
            entropy.extend(bytes(fetched[place : place + NAME_BYTES]) for place in places)
