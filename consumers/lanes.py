"""Users of one partition in the index: each partition is a lane of its own, and has one writer.

A writer asks the manifest whether it still is (`consumers.mandate`) after it has put its offsets on
the disk (`consumers.frontier`) and before it writes. So if it still was, its offsets were there
before it was taken over from, and its successor, who reads them after that, writes nothing older.
"""

from collections.abc import Callable
from pathlib import Path

from consumers.errors import PublishError
from consumers.gone import Gone
from consumers.index import PointBatch, Space, VectorIndex
from consumers.mandate import Mandate, Record
from consumers.manifest_steps import Collections, Filled
from consumers.publications import Publications
from stream.batch import Partition
from stream.clock import Clock


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
        self.record = Record(manifest, clock)

    def claim(self, partition: Partition) -> "Lane":
        """Be the one who writes the users of a partition; ends the right of whoever did."""
        return Lane(self.index, self.record, Mandate(self.record, self.index, str(partition)))

    def close(self) -> None:
        """Close index and manifest; idempotent."""
        self.index.close()
        self.record.close()


class Lane:
    """The users of one partition; made by `Lanes.claim`."""

    def __init__(self, index: VectorIndex, record: Record, mandate: Mandate) -> None:
        self._index = index
        self._record = record
        self._mandate = mandate

    @property
    def generation(self) -> int:
        """Of the right to write."""
        return self._mandate.generation

    def check(self) -> Publications:
        """What is published as of now.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        """
        return self._mandate.check()

    def write(self, pair: Collections, users: PointBatch) -> bool:
        """Write users into a pair of collections; whether the pair is there.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        PublishError
            If they cannot be written.
        """
        return not len(users) or self._with(pair, self._index.upsert, users)

    def bury(self, pair: Collections, gone: Gone) -> bool:
        """Leave tombstones of users in a pair of collections; whether the pair is there.

        Raises
        ------
        As `write`.
        """
        if not (gone.users or gone.points):
            return True
        return self._with(pair, self._index.bury, gone.users, points=gone.points)

    def filled(self, pair: Collections, users: int) -> bool:
        """Say that all users are in a pair that is coming; whether it still is.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        """
        with self._mandate.writing() as published:
            if published.coming != pair:
                return False
            lane, generation = self._mandate.lane, self.generation
            self._mandate.record(
                Filled(collections=pair, lane=lane, generation=generation, users=users)
            )
        return True

    def flush(self) -> None:
        """Make all writes durable."""
        self._index.flush()

    def _with(
        self, pair: Collections, write: Callable[..., None], *what: object, **more: object
    ) -> bool:
        self.check()
        sequence = self._mandate.next_sequence()
        try:
            own = {"epoch": pair.version, "sequence": sequence}
            write(pair.users, Space.USERS, *what, **own, **more)
        except PublishError:
            published = self._record.refresh()
            if pair == published.coming or pair in published.kept:
                raise
            return False  # it was given up meanwhile
        return True
