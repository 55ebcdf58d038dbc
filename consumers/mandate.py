"""The right to write, of one lane: a generation in the manifest that all writers share.

Writes are ordered by a sequence of two parts, ``generation * 2**32 + n``: whoever opens a lane
takes the next generation, and counts its writes in it. So whatever was written before a restart is
older than what is written after it, without a counter to persist at every write; and a writer that
was thought dead and writes on can never replace what its successor has written.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from consumers.errors import Superseded
from consumers.index import VectorIndex
from consumers.manifest import Manifest
from consumers.manifest_steps import Opened, Step
from consumers.publications import Publications
from stream.clock import Clock

GENERATION_BITS = 32


class Record:
    """The manifest and what it adds up to, for all writers of a process, on any thread.

    Parameters
    ----------
    path : Path
    clock : Clock
        Dates lines of the manifest.

    Raises
    ------
    ManifestCorrupt
        If it has been altered.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.manifest = Manifest(path, clock)
        self.published = Publications()
        self._turn = threading.RLock()
        self.refresh()

    def refresh(self) -> Publications:
        """What is published as of now."""
        with self._turn:
            self.manifest.refresh()
            self.published.advance(self.manifest.lines[self.published.lines :])
        return self.published

    def append(self, step: Step) -> None:
        """Write a line."""
        with self._turn:
            self.manifest.append(step)
            self.refresh()

    @contextmanager
    def exclusive(self) -> Generator[Publications]:
        """Keep all other writers out, having read what they wrote."""
        with self._turn, self.manifest.exclusive():
            yield self.refresh()

    def close(self) -> None:
        """Give the file back; idempotent."""
        self.manifest.close()


class Mandate:
    """The right to write in one lane; taking it ends the right of whoever had it.

    Parameters
    ----------
    record : Record
    index : VectorIndex
        Whose highest sequence counts too, should the manifest know less.
    lane : str
        The partition whose users are written; `consumers.manifest.WHOLE` for all else.

    Attributes
    ----------
    generation : int
    """

    def __init__(self, record: Record, index: VectorIndex, lane: str) -> None:
        self.lane = lane
        self._record = record
        self._writes = 0
        with record.exclusive() as published:
            present = published.owned.intersection(index.collections())
            highest = max((index.last_sequence(name) for name in present), default=0)
            self.generation = max(published.generation, highest >> GENERATION_BITS) + 1
            record.append(Opened(generation=self.generation, lane=lane))

    def check(self) -> Publications:
        """What is published as of now.

        Raises
        ------
        Superseded
            If another has taken over.
        """
        published = self._record.refresh()
        if not published.holds(self.lane, self.generation):
            raise Superseded(
                f"{self._record.path}: publisher {published.holders[self.lane]} has taken over"
                f"{self.lane and f' the users of {self.lane}'} from {self.generation}: this one "
                "must stop; restart it to take over again"
            )
        return published

    @contextmanager
    def writing(self) -> Generator[Publications]:
        """Keep all other writers out while aliases or collections change.

        Raises
        ------
        Superseded
            If another has taken over.
        """
        with self._record.exclusive():
            yield self.check()

    def record(self, step: Step) -> None:
        """Write a line of the manifest."""
        self._record.append(step)

    def next_sequence(self) -> int:
        """Number of the next write."""
        self._writes += 1
        return (self.generation << GENERATION_BITS) + self._writes
