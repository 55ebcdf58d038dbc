"""Files as a source: read like a topic, resumable at any row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.batch import Partition, RecordBatch
from stream.errors import SourceError
from stream.formats import Format
from stream.parts import Part, Piece


@dataclass(slots=True)
class _Reading:
    """One file being read."""

    part: Part
    history: bool = False
    position: int = 0
    pieces: Iterator[Piece] | None = None
    rest: Piece | None = None
    done: bool = False

    @property
    def partition(self) -> Partition:
        return Partition(self.part.name, 0)

    def seek(self, position: int) -> None:
        self.position = position
        self.pieces = None
        self.rest = None
        self.done = False

    def take(self, most: int) -> RecordBatch | None:
        """The next ``most`` messages, fewer at the end of the file or of its history.

        How a file is cut into pieces does not show: a replay that goes on where it was killed
        then sees the batches of one that was not.
        """
        taken: list[Piece] = []
        room = most
        while room and (piece := self._peek()) is not None:
            if taken and piece.history is not taken[0].history:
                break
            first, self.rest = _cut(piece, room)
            taken.append(first)
            room -= len(first.values)
        if not taken:
            self.done = True
            return None
        self.position = taken[-1].next_offset
        return RecordBatch(
            self.partition,
            np.concatenate([piece.offsets for piece in taken]),
            [value for piece in taken for value in piece.values],
            self.position,
            history=self.history or taken[0].history,
        )

    def _peek(self) -> Piece | None:
        if self.rest is None:
            self.rest = self._next_piece()
        return self.rest

    def _next_piece(self) -> Piece | None:
        if self.pieces is None:
            if self.position and self.position > (end := self.part.end()):
                raise SourceError(
                    f"{self.partition}@{self.position}: the file ends at {end}, so it is not the "
                    "one that was read before. Bring that file back, or start with a new state"
                )
            self.pieces = self.part.read(self.position)
        return next(self.pieces, None)


def _cut(piece: Piece, most: int) -> tuple[Piece, Piece | None]:
    """The first ``most`` messages, and the rest if there is one."""
    if len(piece.values) <= most:
        return piece, None
    offsets, values, following = piece.offsets, piece.values, int(piece.offsets[most])
    return (
        Piece(offsets[:most], values[:most], following, piece.history),
        Piece(offsets[most:], values[most:], piece.next_offset, piece.history),
    )


class FileSource:
    """A `stream.source.Source` over files.

    A partition is a file (number 0), an offset a row in its order of reading. Files are read one
    after another: those of ``history`` first, then those of each path in the order of its format.

    Parameters
    ----------
    paths : files or folders
    fmt : Format
    history : files or folders to learn from before scoring begins; their batches say so
    history_format : Format of ``history``; None: that of the events
    resume : partition -> offset to go on from

    Raises
    ------
    SourceError
        If a path cannot be read, or two files would have the same partition.
    FormatError
        If a folder holds no file of the format.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        fmt: Format,
        *,
        history: Sequence[Path] = (),
        history_format: Format | None = None,
        resume: Mapping[Partition, int] | None = None,
    ) -> None:
        before = [p for path in history for p in (history_format or fmt).parts(path)]
        events = [p for path in paths for p in fmt.parts(path)]
        readings = [_Reading(p, history=True) for p in before] + [_Reading(p) for p in events]
        self._readings = {reading.partition: reading for reading in readings}
        if len(self._readings) < len(readings):
            names = [reading.part.name for reading in readings]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise SourceError(
                f"two inputs are both called {twice[0]!r}, so a position in one could be taken for "
                "one in the other. Rename one, or put both below one folder and name that"
            )
        self._paused = False
        self._closed = False
        self.seek(resume or {})

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        """Read on; a batch never spans two files. Files never make one wait."""
        if self._paused or self._closed:
            return []
        for reading in self._readings.values():
            if not reading.done:
                batch = reading.take(max_records)
                if batch is not None:
                    return [batch]
        return []

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Read on from these offsets; partitions that are not among the files are passed over.

        Raises
        ------
        SourceError
            If an offset is negative.
        """
        for partition, position in positions.items():
            if position < 0:
                raise SourceError(f"{partition}@{position}: a position is at least 0")
            if partition in self._readings:
                self._readings[partition].seek(position)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def advise(self, positions: Mapping[Partition, int]) -> None:
        """Nobody watches the lag of files."""

    def lag(self) -> Mapping[Partition, int]:
        return {
            partition: 0 if reading.done else max(0, reading.part.end() - reading.position)
            for partition, reading in self._readings.items()
        }

    @property
    def exhausted(self) -> bool:
        return self._closed or all(reading.done for reading in self._readings.values())

    def close(self) -> None:
        self._closed = True
        for reading in self._readings.values():
            reading.seek(reading.position)
