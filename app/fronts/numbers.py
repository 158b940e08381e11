"""One number for each version of an adapter, however many frontends serve it."""

import itertools


class SharedNumbers:
    """Given out by name, and taken back; never used twice, since an engine may remember them."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._users: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def take(self, name: str) -> int:
        """The number of this version, for one more user."""
        if name not in self._numbers:
            self._numbers[name] = next(self._next)
        self._users[name] = self._users.get(name, 0) + 1
        return self._numbers[name]

    def give_back(self, name: str) -> bool:
        """One user less. Whether that was the last."""
        self._users[name] -= 1
        if self._users[name]:
            return False
        del self._users[name], self._numbers[name]
        return True
