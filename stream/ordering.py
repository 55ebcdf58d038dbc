"""Which events come in: each once, and none that is too late.

Both rules look at one event after the other within a partition, so the way a stream is cut into
batches changes nothing. An event is first asked whether its id has been kept before, then whether
its time is more than the lateness behind the latest time of its partition. What a rule of
`stream.excision` leaves out is not asked anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Partition
from stream.excision import Rule, left_out
from stream.window import IdWindow

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
    """

    keep: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    late: NDArray[np.int64]
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

    @property
    def watermarks(self) -> Mapping[Partition, int]:
        """Latest event time by partition, microseconds since the epoch."""
        return self._watermarks

    def admit(self, batch: EventBatch) -> Admission:
        """Sort a batch's events into kept, duplicate, late and left out; remember the kept ones."""
        out = left_out(self.rules, batch) if self.rules else None
        if out is None or not out.any():
            fate = self._fates(batch.partition, batch.event_id, batch.time_us)
            return Admission(*(np.flatnonzero(fate == f) for f in (_KEEP, _DUPLICATE, _LATE)))
        asked = np.flatnonzero(~out)
        ids = [batch.event_id[i] for i in asked.tolist()]
        fate = self._fates(batch.partition, ids, batch.time_us[asked])
        keep, duplicates, late = (asked[fate == f] for f in (_KEEP, _DUPLICATE, _LATE))
        return Admission(keep, duplicates, late, np.flatnonzero(out))

    def _fates(
        self, partition: Partition, event_id: Sequence[str], time_us: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        n = len(event_id)
        fate = np.empty(n, np.uint8)
        start = 0
        while start < n:
            # at most as many rows as the open block has room for, however many are kept
            stop = min(n, start + self.seen.lanes.room(partition))
            ids = event_id[start:stop]
            if self.seen.values.keys().isdisjoint(ids) and len(set(ids)) == len(ids):
                fate[start:stop] = self._late(partition, time_us[start:stop])
            else:
                fate[start:stop] = self._one_by_one(partition, ids, time_us[start:stop].tolist())
            kept = np.flatnonzero(fate[start:stop] == _KEEP)
            names = ids if len(kept) == len(ids) else [ids[i] for i in kept.tolist()]
            self.seen.add(partition, names)
            self.seen.passed(partition, len(names))
            start = stop
        return fate

    def restore(self, watermarks: Mapping[Partition, int]) -> None:
        """Put back the watermarks of a snapshot."""
        self._watermarks = dict(watermarks)

    def _late(self, partition: Partition, times: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Fates of events none of which is a duplicate."""
        latest = np.maximum.accumulate(np.append(self._mark(partition), times))
        self._watermarks[partition] = int(latest[-1])
        late = times < latest[:-1] - self.config.lateness_us
        return np.where(late, _LATE, _KEEP).astype(np.uint8)

    def _one_by_one(
        self, partition: Partition, ids: Sequence[str], times: Sequence[int]
    ) -> list[int]:
        """Fates of events some of which are duplicates, of each other perhaps."""
        seen, here = self.seen.values, set[str]()
        mark = self._mark(partition)
        fates: list[int] = []
        for name, time_us in zip(ids, times, strict=True):
            if name in seen or name in here:
                fates.append(_DUPLICATE)
            elif time_us < mark - self.config.lateness_us:
                fates.append(_LATE)
            else:
                here.add(name)
                mark = max(mark, time_us)
                fates.append(_KEEP)
        if mark != _NEVER:
            self._watermarks[partition] = mark
        return fates

    def _mark(self, partition: Partition) -> int:
        return self._watermarks.get(partition, _NEVER)
