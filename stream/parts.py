"""Files as a format reads them: parts, each a partition, in pieces of numbered messages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column
from stream.fragments import to_bytes
from stream.lines import count_lines, numbered_lines
from stream.rows import PIECE


@dataclass(frozen=True, slots=True)
class Piece:
    """Some messages of a part, in ascending offset order; as `stream.batch.RecordBatch`."""

    offsets: NDArray[np.int64]
    values: Sequence[bytes]
    next_offset: int
    history: bool = False


class Part(Protocol):
    """One file as a format reads it. The same row has the same offset whenever it is read."""

    @property
    def name(self) -> str:
        """Name of the partition: the file, relative to the folder that was named."""
        ...

    def read(self, start: int) -> Iterator[Piece]:
        """Messages from offset ``start`` on.

        Raises
        ------
        FormatError
            If the file is not what it was taken for.
        SourceError
            If it cannot be read on.
        """
        ...

    def end(self) -> int:
        """Offset behind the last message."""
        ...


class LinesPart:
    """Messages that stand in a file as they are, one a line; offset = line."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._end: int | None = None

    def read(self, start: int) -> Iterator[Piece]:
        for number, lines in numbered_lines(self._path, PIECE):
            skip = int(np.searchsorted(number, start))
            if skip < len(lines):
                yield Piece(number[skip:], lines[skip:], int(number[-1]) + 1)

    def end(self) -> int:
        if self._end is None:
            self._end = count_lines(self._path)
        return self._end


class ColumnsPart:
    """Messages made, a slice at a time, from columns that are already in memory and in order.

    Parameters
    ----------
    load : callable
        Called once, at first use: gives the number of messages, and what makes those of a slice.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], tuple[int, Callable[[slice], Column]]],
        *,
        history: bool = False,
    ) -> None:
        self.name = name
        self._load = load
        self._history = history
        self._loaded: tuple[int, Callable[[slice], Column]] | None = None

    def read(self, start: int) -> Iterator[Piece]:
        rows, make = self._get()
        for first in range(start, rows, PIECE):
            last = min(first + PIECE, rows)
            values = to_bytes(make(slice(first, last)))
            yield Piece(np.arange(first, last, dtype=np.int64), values, last, self._history)

    def end(self) -> int:
        return self._get()[0]

    def _get(self) -> tuple[int, Callable[[slice], Column]]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
