"""A member of a group: keeps the partitions that the group gives it, a cell each.

Partitions come and go while it runs, one by one (KIP-429): what stays goes on meanwhile. One that
goes to another member is saved first, on the client's own thread, while the loop waits; one that
was lost is dropped as it is. Nobody's word is trusted here: whoever opens a partition takes its
lane (`consumers.lanes`), and what another still writes has no effect from then on.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from consumers.cell import Cell
from consumers.errors import Superseded
from consumers.item_news import NewsReader
from consumers.lifecycle import Stop
from consumers.logs import log
from stream.batch import Partition, RecordBatch
from stream.clock import Clock
from stream.kafka_source import Moves
from stream.topic import Topic

POLL_TIMEOUT_S = 0.2
AGAIN_US = 10_000_000
"""Until a partition is taken over anew that somebody took though the group says that it is ours.

Whoever was away for long and does not know that it was given to us learns it by then.
"""


class GroupSource(Protocol):
    """What is used of a `stream.kafka_source.KafkaSource` with `Moves`."""

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]: ...
    def begin(self, partition: Partition, offset: int | None, known: Topic | None) -> bool: ...
    def topic_of(self, partition: Partition) -> Topic: ...
    def advise(self, positions: Mapping[Partition, int]) -> None: ...
    def lag(self) -> Mapping[Partition, int]: ...
    def assignment(self) -> set[Partition]: ...
    def close(self) -> None: ...


class Member:
    """Runs the cells of the partitions that are given to this process.

    Parameters
    ----------
    open_source : callable
        Joins the group.
    open_cell : callable
        Takes over a partition, with what was saved of it.
    news : NewsReader
    clock : Clock
    stop : Stop
    batch : int
        Messages applied at a time.
    snapshot_every_s : float
        Seconds between two snapshots of a partition.
    on_step : callable
        Called after every step.

    Attributes
    ----------
    cells : those open now, by partition
    taken_over, handed_over, lost : int
        How many partitions came, were saved for another member, were another's already.
    taken, written : int
        Messages applied, and users written for them.
    """

    def __init__(
        self,
        open_source: Callable[[Moves], GroupSource],
        open_cell: Callable[[Partition], Cell],
        news: NewsReader,
        clock: Clock,
        stop: Stop,
        *,
        batch: int = 2_000,
        snapshot_every_s: float = 10.0,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.cells: dict[Partition, Cell] = {}
        self.taken_over = self.handed_over = self.lost = 0
        self.taken = self.written = 0
        self.stop = stop
        self.on_step = on_step
        self._open_cell = open_cell
        self._news = news
        self._clock = clock
        self._batch = batch
        self._every_us = int(snapshot_every_s * 1e6)
        self._saved_us: dict[Partition, int] = {}
        self._lag: Mapping[Partition, int] = {}
        self._waiting: dict[Partition, int] = {}  # and until when
        # The client's thread tells of moves while it holds up nothing but polls: never call the
        # source with this lock held.
        self._lock = threading.RLock()
        self.source = open_source(Moves(self._given, self._taken))

    def run(self) -> None:
        """Go on until a stop is asked for; then save everything and leave the group."""
        try:
            while not self.stop.requested:
                self.step()
            with self._lock:
                self._waiting.clear()
                for partition in list(self.cells):
                    self._hand_over(partition)
        finally:
            with self._lock:
                for cell in self.cells.values():  # of a fault: what was not saved is read again
                    cell.close()
                self.cells.clear()
            self.source.close()

    def step(self) -> None:
        """Poll once and do all that follows from it."""
        self._open_waiting()
        batches = self.source.poll(self._batch, POLL_TIMEOUT_S)
        self._lag = self.source.lag()
        self._news.look()
        with self._lock:
            for batch in batches:
                cell = self.cells.get(batch.partition)
                if cell is not None:  # else it has just gone: its next owner reads this again
                    cell.take(batch)
                    cell.topic = self.source.topic_of(batch.partition)
                    self.taken += len(batch)
            saved = {p: at for p in list(self.cells) if (at := self._go_on(p)) is not None}
        self.source.advise(saved)
        self.on_step()

    def _go_on(self, partition: Partition) -> int | None:
        """Have a cell write what it must, and save it where that is due; up to where it is then."""
        cell = self.cells[partition]
        try:
            self.written += cell.step(self._lag.get(partition))
            now_us = self._clock.now_us()
            if now_us - self._saved_us[partition] < self._every_us:
                return None
            cell.commit()
        except Superseded as superseded:
            self._drop(partition, str(superseded))
            self._waiting[partition] = self._clock.now_us() + AGAIN_US
            return None
        self._saved_us[partition] = now_us
        return cell.position

    def _open_waiting(self) -> None:
        """Take over the partitions that were given since the last look."""
        held, now_us = self.source.assignment(), self._clock.now_us()
        for partition, until_us in list(self._waiting.items()):
            if partition not in held:
                self._waiting.pop(partition, None)
                continue
            if now_us < until_us:
                continue
            cell = self._open_cell(partition)
            with self._lock:
                if self._waiting.pop(partition, None) is None:  # taken back meanwhile
                    cell.close()
                    continue
                self.cells[partition] = cell
                self._saved_us[partition] = 0  # it is saved here before long
                self.taken_over += 1
            log.info("took over", partition=str(partition), offset=cell.position)
            self.source.begin(partition, cell.position, cell.topic)

    # -- on the client's own thread

    def _given(self, partitions: Sequence[Partition]) -> None:
        with self._lock:
            self._waiting.update(dict.fromkeys(partitions, 0))

    def _taken(self, partitions: Sequence[Partition]) -> None:
        with self._lock:
            for partition in partitions:
                self._waiting.pop(partition, None)
                if partition in self.cells:
                    self._hand_over(partition)

    def _hand_over(self, partition: Partition) -> None:
        """Save a partition and let it go."""
        try:
            self.cells[partition].commit()
        except Superseded as superseded:
            self._drop(partition, str(superseded))
            return
        self.handed_over += 1
        self.cells.pop(partition).close()
        log.info("handed over", partition=str(partition))

    def _drop(self, partition: Partition, why: str) -> None:
        """Let a partition go that is another's already."""
        self.lost += 1
        self.cells.pop(partition).close()
        log.warning("lost", partition=str(partition), why=why)
