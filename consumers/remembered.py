"""The last good lists, for when the index does not answer: as many as fit, with their age."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from consumers.finder import Found

CAPACITY = 20_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the index gave once: before the rules, which are applied to it anew."""

    found: Found
    version: int
    at_us: int


class LastGood:
    """Lists by what was asked, the least lately used given up first.

    Parameters
    ----------
    capacity : int
        Lists kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lists: OrderedDict[tuple[object, ...], Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lists)

    def keep(self, key: tuple[object, ...], list_: Remembered) -> None:
        """Remember a list instead of the one before."""
        with self._lock:
            self._lists[key] = list_
            self._lists.move_to_end(key)
            if len(self._lists) > self._capacity:
                self._lists.popitem(last=False)

    def get(self, key: tuple[object, ...]) -> Remembered | None:
        """The last list for this, if it is remembered."""
        with self._lock:
            found = self._lists.get(key)
            if found is not None:
                self._lists.move_to_end(key)
            return found

    def forget(self, users: Iterable[str]) -> None:
        """Give up what was remembered for users that were erased."""
        gone = set(users)
        with self._lock:
            for key in [key for key in self._lists if key[0] in gone]:
                del self._lists[key]
