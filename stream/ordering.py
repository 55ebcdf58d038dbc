"""Which events come in: each once, and none that is too late.

Both rules look at one event after the other within a partition, so the way a stream is cut into
batches changes nothing. An event is first asked whether its id has been kept before, then whether
its time is more than the lateness behind the watermark of its partition. What a rule of
`stream.excision` leaves out is not asked anything.

The watermark is the latest time of the partition's events, but one clock cannot drag it: an event
further ahead of it than the lateness is kept and moves it only when `WITNESSES` different users
are as far ahead. So a device that lives in next year makes nobody late, and after a quiet night the
watermark follows as soon as a few have come. An idle partition holds up no other: each has its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Partition, pick
from stream.excision import Rule, left_out
from stream.window import IdWindow

WITNESSES = 3
Leaps = dict[int, int]  # who is ahead, hashed, for an erased user must not be found here; and where
_KEEP, _LATE, _DUPLICATE = range(3)
_NEVER = np.iinfo(np.int64).min // 2  # a watermark before every event; less lateness, no overflow


@dataclass(frozen=True, slots=True)
class OrderingConfig:
    """How long is remembered, and how late is too late.

    Attributes
    ----------
    remembered : int
        Every event is compared with at least this many events kept before it in its partition
        (rounded up to whole blocks), and with at most ``block`` more. A repetition in another
        partition is found as well, as long as the first is remembered in its own.
    block : int
        Ids that are forgotten together.
    lateness_us : int
        How far an event's time may lie behind the latest of its partition, in microseconds.
    """

    remembered: int = 2_000_000
    block: int = 65_536
    lateness_us: int = 3_600_000_000

    def __post_init__(self) -> None:
        if self.lateness_us < 0:
            raise ValueError(f"lateness_us is at least 0: got {self.lateness_us}")


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a batch: every index of it is in exactly one of the four, ascending.

    Attributes
    ----------
    keep, duplicates, late, excised : int64[*]
        Indices into the `EventBatch`.
    now_us : int or None
        Time of the stream after it: the furthest watermark. None before the first event.
    """

    keep: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    late: NDArray[np.int64]
    now_us: int | None
    excised: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Orderer:
    """Decides, event by event, what is applied.

    Attributes
    ----------
    rules : what is left out from here on
    """

    def __init__(self, config: OrderingConfig | None = None, rules: Sequence[Rule] = ()) -> None:
        self.config = config or OrderingConfig()
        self.rules = tuple(rules)
        self.seen = IdWindow(self.config.remembered, self.config.block, numbered=False)
        self._watermarks: dict[Partition, int] = {}
        self._leaps: dict[Partition, Leaps] = {}

    @property
    def watermarks(self) -> Mapping[Partition, int]:
        """How far each partition is, microseconds since the epoch."""
        return self._watermarks

    @property
    def leaps(self) -> Mapping[Partition, Mapping[int, int]]:
        """Who is further ahead of a watermark than the lateness, and the first time that was."""
        return self._leaps

    def admit(self, batch: EventBatch) -> Admission:
        """Sort a batch's events into kept, duplicate, late and left out; remember the kept ones."""
        out = left_out(self.rules, batch) if self.rules else np.zeros(len(batch), np.bool_)
        asked = np.flatnonzero(~out)
        ids, users = pick(batch.event_id, asked), pick(batch.user, asked)
        fate = self._fates(batch.partition, ids, users, batch.time_us[asked])
        keep, duplicates, late = (asked[fate == f] for f in (_KEEP, _DUPLICATE, _LATE))
        now_us = max(self._watermarks.values(), default=None)
        return Admission(keep, duplicates, late, now_us, np.flatnonzero(out))

    def _fates(
        self,
        partition: Partition,
        event_id: Sequence[str],
        user: Sequence[str],
        time_us: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        n = len(event_id)
        fate = np.empty(n, np.uint8)
        start = 0
        while start < n:
            # at most as many rows as the open block has room for, however many are kept
            stop = min(n, start + self.seen.lanes.room(partition))
            ids, users, times = event_id[start:stop], user[start:stop], time_us[start:stop]
            known = self.seen.known(ids)
            if not known and len(set(ids)) == len(ids):
                fate[start:stop] = self._late(partition, ids, users, times)
            else:
                fate[start:stop] = self._one_by_one(partition, ids, users, times.tolist(), known)
            kept = np.flatnonzero(fate[start:stop] == _KEEP)
            names = ids if len(kept) == len(ids) else [ids[i] for i in kept.tolist()]
            self.seen.add(partition, names)
            self.seen.passed(partition, len(names))
            start = stop
        return fate

    def restore(
        self,
        watermarks: Mapping[Partition, int],
        leaps: Mapping[Partition, Mapping[int, int]] | None = None,
    ) -> None:
        """Put back what a snapshot holds."""
        self._watermarks = dict(watermarks)
        self._leaps = {partition: dict(ahead) for partition, ahead in (leaps or {}).items()}

    def _late(
        self,
        partition: Partition,
        ids: Sequence[str],
        users: Sequence[str],
        times: NDArray[np.int64],
    ) -> Sequence[int] | NDArray[np.uint8]:
        """Fates of events none of which is a duplicate."""
        mark = self._mark(partition)
        latest = np.maximum.accumulate(np.append(mark if mark != _NEVER else times[:1], times))
        if (times - latest[:-1] > self.config.lateness_us).any():
            return self._one_by_one(partition, ids, users, times.tolist())
        self._watermarks[partition] = int(latest[-1])
        late = times < latest[:-1] - self.config.lateness_us
        return np.where(late, _LATE, _KEEP).astype(np.uint8)

    def _one_by_one(
        self,
        partition: Partition,
        ids: Sequence[str],
        users: Sequence[str],
        times: Sequence[int],
        known: Collection[str] = (),
    ) -> list[int]:
        """Fates of events some of which are duplicates, of each other perhaps, or far ahead."""
        here: set[str] = set()
        mark = self._mark(partition)
        fates: list[int] = []
        for name, user, time_us in zip(ids, users, times, strict=True):
            if name in known or name in here:
                fates.append(_DUPLICATE)
            elif time_us < mark - self.config.lateness_us:
                fates.append(_LATE)
            else:
                here.add(name)
                if mark == _NEVER or time_us <= mark + self.config.lateness_us:
                    mark = max(mark, time_us)
                else:
                    mark = self._leap(partition, mark, time_us, user or name)
                fates.append(_KEEP)
        if mark != _NEVER:
            self._watermarks[partition] = mark
        return fates

    def _leap(self, partition: Partition, mark: int, time_us: int, who: str) -> int:
        """The watermark after an event that is further ahead of it than the lateness."""
        reach = self.config.lateness_us
        known = self._leaps.get(partition, {}) | {crc32(who.encode()): time_us}
        ahead = {one: at for one, at in known.items() if at > mark + reach}
        if len(ahead) >= WITNESSES:
            first = min(ahead.values())
            mark = max(at for at in ahead.values() if at <= first + reach)
            ahead = {one: at for one, at in ahead.items() if at > mark + reach}
        self._leaps[partition] = ahead
        return mark

    def _mark(self, partition: Partition) -> int:
        return self._watermarks.get(partition, _NEVER)
