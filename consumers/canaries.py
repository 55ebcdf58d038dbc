"""Canaries in the index: users that no event can name, as of the last canary event of each.

A canary event is handed on by the codec beside all others: neither the order of events nor the
graph knows it, so no count, score, fine-tune, campaign, drift, snapshot or list does. Its user's
vector is written together with those of the users that came in the same poll. The id begins with a
control character, which no event's may: nobody can be, or ask for, a canary. There are at most
`stream.events.CANARIES`, and they go with the collection that they are in.
"""

import zlib
from collections import deque
from collections.abc import Sequence

import numpy as np

from consumers.index import PointBatch
from consumers.live import LiveModel
from stream.events import CANARIES, Canary
from stream.histories import Recent

STAMPS = "canaries"
"""Field of a canary's payload: ids of its last events, the newest first."""
KEPT = 8
"""Stamps: as many servers may send canaries of the same number at a time."""


def canary_id(number: int) -> str:
    """The external id of a canary's user."""
    if not 0 <= number < CANARIES:
        raise ValueError(f"canary {number} is not in 0..{CANARIES - 1}")
    return f"\x01canary-{number}"


class Canaries:
    """Canary events that were heard of, by number, and which have yet to be written."""

    def __init__(self) -> None:
        self._heard: dict[int, deque[Canary]] = {}
        self._due: set[int] = set()

    def hear(self, canaries: Sequence[Canary]) -> None:
        """Remember these events; they are in the order of arrival."""
        for canary in canaries:
            self._heard.setdefault(canary.number, deque(maxlen=KEPT)).appendleft(canary)
            self._due.add(canary.number)

    def again(self) -> None:
        """Write all that are known: another collection is live."""
        self._due.update(self._heard)

    def among(self, users: PointBatch, live: LiveModel) -> PointBatch:
        """These users and the canaries that are due, whose events then count as written."""
        if not self._due:
            return users
        numbers, size = sorted(self._due), len(live.graph.items)
        self._due.clear()
        events = [self._heard[number] for number in numbers]
        # Somebody who clicked one item, another one with each event: the vector is as of it.
        item = np.full((len(numbers), live.context), -1, np.int32)
        item[:, 0] = [zlib.crc32(e[0].event_id.encode()) % size if size else -1 for e in events]
        time_us = np.zeros_like(item, np.int64)
        time_us[:, 0] = [e[0].time_us for e in events]
        stamps = [{STAMPS: [e.event_id for e in heard]} for heard in events]
        return PointBatch(
            [*users.ids, *map(canary_id, numbers)],
            np.concatenate([users.vectors, live.fold(Recent(item, time_us))]),
            [*users.payloads, *stamps],
        )
