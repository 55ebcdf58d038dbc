"""A topic of a few partitions in memory, read in an order that its positions alone decide."""

import json
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from stream.batch import Partition, RecordBatch
from stream.simulator import Simulator, SimulatorConfig

TOPIC = "events"
PARTITIONS = 3


def partition_of(user: str) -> Partition:
    """Where a user's events are."""
    return Partition(TOPIC, zlib.crc32(user.encode()) % PARTITIONS)


class Topic:
    """A `stream.source.Source`; the partition least far on is read next."""

    def __init__(
        self, messages: Sequence[Sequence[bytes]], positions: Mapping[Partition, int]
    ) -> None:
        self._messages = {Partition(TOPIC, n): list(part) for n, part in enumerate(messages)}
        self._at = {p: positions.get(p, 0) for p in self._messages}

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        left = [p for p, part in self._messages.items() if self._at[p] < len(part)]
        if not left:
            return []
        partition = min(left, key=lambda p: (self._at[p] / len(self._messages[p]), p.number))
        start = self._at[partition]
        # Cut at multiples, so that a restart cuts where an undisturbed run does.
        stop = min(start + max_records - start % max_records, len(self._messages[partition]))
        self._at[partition] = stop
        values = self._messages[partition][start:stop]
        return [RecordBatch(partition, np.arange(start, stop), values, stop)]

    def seek(self, positions: Mapping[Partition, int]) -> None:
        self._at.update(positions)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def advise(self, positions: Mapping[Partition, int]) -> None: ...

    def lag(self) -> Mapping[Partition, int]:
        return {p: len(part) - self._at[p] for p, part in self._messages.items()}

    @property
    def exhausted(self) -> bool:
        return not any(self.lag().values())

    def close(self) -> None: ...


def delivered(
    messages: Sequence[bytes], rng: np.random.Generator, *, first: int, delay: float, again: float
) -> list[bytes]:
    """As a bad network does it: some messages late, from the ``first`` on, and some twice.

    Parameters
    ----------
    delay, again : how many messages later, on average
    """
    at = np.arange(len(messages), dtype=np.float64)
    delayed = (rng.random(len(at)) < 0.06) & (at >= first)
    at[delayed] += rng.exponential(delay, int(delayed.sum()))
    twice = np.flatnonzero(rng.random(len(at)) < 0.05)
    places = np.append(at, at[twice] + rng.exponential(again, len(twice)))
    copies = [*messages, *(messages[i] for i in twice.tolist())]
    return [copies[i] for i in np.argsort(places, kind="stable").tolist()]


def erasure(user: int, occurred_at: str) -> bytes:
    """A user of the simulator asks to be forgotten."""
    erased = {
        "type": "erase_user",
        "event_id": f"erase-{user}",
        "occurred_at": occurred_at,
        "user_id": f"user-{user}",
    }
    return json.dumps(erased).encode()


def disturbed(seed: int, count: int) -> list[list[bytes]]:
    """A platform's messages as a bad network delivers them, by partition."""
    rng = np.random.default_rng(seed)
    # No new items: placing one by its text moves users who have clicked it before, but only with
    # their next event, and vectors are compared in the end.
    config = SimulatorConfig(
        count, users=60, items=50, campaigns=4, new_items=0.0, removed_items=0.02
    )
    messages = list(Simulator(config, rng))
    first = next(n for n, m in enumerate(messages) if b'"impression"' in m)
    moved = delivered(messages, rng, first=first, delay=150, again=200)
    for user in rng.choice(60, 4, replace=False).tolist():
        place = int(rng.integers(first, len(moved)))
        moved.insert(place, erasure(user, json.loads(moved[place])["occurred_at"]))
    parts: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for message in moved:
        user = json.loads(message).get("user_id")
        number = 0 if user is None else partition_of(user).number
        parts[number].append(message)
    for _ in range(12):
        part = parts[int(rng.integers(PARTITIONS))]
        part.insert(int(rng.integers(len(part))), b'{"type":"click","broken":1}')
    return parts
