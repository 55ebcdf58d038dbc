"""Users of one partition in the index: each partition is a lane of its own, and has one writer.

Whoever takes a partition over takes the next generation for its lane, in the manifest that all
share, and writes with sequences that begin with it; so what the one before still has on its way
loses to all that its successor has written. A writer asks the manifest after it has put its
offsets on the disk (`consumers.frontier`) and before it writes. So if it was still allowed to, its
offsets were there before it was taken over from, and its successor, who reads them after that,
writes nothing older.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from consumers.errors import PublishError, Superseded
from consumers.index import PointBatch, Space, VectorIndex
from consumers.manifest import Collections, Filled, Manifest, Opened
from consumers.publications import Publications
from consumers.publisher import GENERATION_BITS
from stream.batch import Partition
from stream.clock import Clock

Users = PointBatch | Sequence[str]


class Lanes:
    """The index and the manifest, as all partitions of a member use them, on any thread.

    Parameters
    ----------
    index : VectorIndex
        Closed with this.
    manifest : Path
    clock : Clock
        Dates lines of the manifest.

    Raises
    ------
    ManifestCorrupt
        If the manifest has been altered.
    """

    def __init__(self, index: VectorIndex, manifest: Path, clock: Clock) -> None:
        self.index = index
        self.manifest = Manifest(manifest, clock)
        self.published = Publications()
        self.turn = threading.RLock()
        self.refresh()

    def refresh(self) -> Publications:
        """What is published as of now."""
        with self.turn:
            self.manifest.refresh()
            self.published.advance(self.manifest.lines[self.published.lines :])
        return self.published

    def claim(self, partition: Partition) -> "Lane":
        """Be the one who writes the users of a partition; ends the right of whoever did."""
        with self.turn, self.manifest.exclusive():
            published = self.refresh()
            present = published.owned.intersection(self.index.collections())
            highest = max((self.index.last_sequence(name) for name in present), default=0)
            generation = max(published.generation, highest >> GENERATION_BITS) + 1
            self.manifest.append(Opened(generation=generation, lane=str(partition)))
            self.refresh()
        return Lane(self, str(partition), generation)

    def close(self) -> None:
        """Close index and manifest; idempotent."""
        self.index.close()
        self.manifest.close()


class Lane:
    """The right to write the users of one partition; made by `Lanes.claim`.

    Attributes
    ----------
    generation : int
    """

    def __init__(self, lanes: Lanes, name: str, generation: int) -> None:
        self._lanes = lanes
        self.name = name
        self.generation = generation
        self._writes = 0

    def check(self) -> Publications:
        """What is published as of now.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        """
        published = self._lanes.refresh()
        if not published.holds(self.name, self.generation):
            raise Superseded(
                f"{self.name}: writer {published.holders[self.name]} has taken over from "
                f"{self.generation}: its users are another member's"
            )
        return published

    def write(self, pair: Collections, users: PointBatch) -> bool:
        """Write users into a pair of collections; whether the pair is there.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        PublishError
            If they cannot be written.
        """
        return self._with(pair, self._lanes.index.upsert, users)

    def bury(self, pair: Collections, users: Sequence[str]) -> bool:
        """Leave tombstones of users in a pair of collections; whether the pair is there.

        Raises
        ------
        As `write`.
        """
        return self._with(pair, self._lanes.index.bury, users)

    def filled(self, pair: Collections, users: int) -> bool:
        """Say that all users are in a pair that is coming; whether it still is.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        """
        with self._lanes.turn, self._lanes.manifest.exclusive():
            if self.check().coming != pair:
                return False
            self._lanes.manifest.append(
                Filled(collections=pair, lane=self.name, generation=self.generation, users=users)
            )
            self._lanes.refresh()
        return True

    def flush(self) -> None:
        """Make all writes durable."""
        self._lanes.index.flush()

    def _with(self, pair: Collections, write: Callable[..., None], users: Users) -> bool:
        if not len(users):
            return True
        self.check()
        self._writes += 1
        sequence = (self.generation << GENERATION_BITS) + self._writes
        try:
            write(pair.users, Space.USERS, users, epoch=pair.version, sequence=sequence)
        except PublishError:
            published = self._lanes.refresh()
            if pair == published.coming or pair in published.kept:
                raise
            return False  # it was given up meanwhile
        return True
