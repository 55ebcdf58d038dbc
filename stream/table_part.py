"""Tables as parts: rows in order of time, each an event, items told of before their first event."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, pa
from stream.event_time import filled
from stream.fragments import to_bytes
from stream.parts import Piece
from stream.rows import PIECE, Rows, joined

KEPT_BYTES: Final = 64 * 1_048_576  # a larger file that is in order is read twice, not kept

ReadRows = Callable[[], Iterator[Rows]]
TimesOf = Callable[[Rows], Column]
Encode = Callable[[Rows], Column]


@dataclass(frozen=True, slots=True)
class Announce:
    """How the rows of a table tell of their items.

    Attributes
    ----------
    key : rows to n strings
        What a row says of its item; null for nothing. The first row that says it announces it.
    encode : rows to n messages
    """

    key: Encode
    encode: Encode


class TablePart:
    """Messages made from the rows of a table, in order of time.

    A first pass looks at the times. A table in order of time is then read in pieces; any other is
    loaded and sorted (rows of equal time keep their order). Offset = place in that order. With
    ``announce``, an item's own message comes right before the first row that brings its text, and
    takes an offset too.

    Parameters
    ----------
    read : callable
        The rows of the file from its beginning.
    times : callable
        Rows to int64[n], microseconds since the Unix epoch, null where unknown.
    encode : callable
        Rows to n messages.
    announce : Announce, optional
        Items to be told of before the rows that bring them.
    kept_bytes : int
        Up to this size the rows of the first pass are kept in memory.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        read: ReadRows,
        times: TimesOf,
        encode: Encode,
        *,
        announce: Announce | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.name = name
        self._read_rows = read
        self._times = times
        self._encode = encode
        self._announce = announce
        self._keep = path.stat().st_size <= kept_bytes
        self._kept: list[Rows] | None = None
        self._place: NDArray[np.int64] | None = None

    def read(self, start: int) -> Iterator[Piece]:
        """Messages from offset ``start`` on, as `stream.parts.Part.read`."""
        place = self._scanned()
        row = int(np.searchsorted(place, start))
        at = 0
        for rows in self._in_order():
            behind = at + len(rows)
            if behind > row:
                skip = max(0, row - at)
                wanted = rows if not skip else rows.take(np.arange(skip, len(rows)))
                yield self._piece(wanted, place[at + skip : behind], start)
            at = behind

    def end(self) -> int:
        place = self._scanned()
        return int(place[-1]) + 1 if len(place) else 0

    def _piece(self, rows: Rows, place: NDArray[np.int64], start: int) -> Piece:
        messages = to_bytes(self._encode(rows))
        for at, message in rows.unreadable.items():
            messages[at] = message
        offsets = place
        if self._announce is not None:
            announced = np.flatnonzero(np.diff(place, prepend=self._before(place[0])) > 1)
            announced = announced[place[announced] - 1 >= start]
            items = to_bytes(self._announce.encode(rows.take(announced)))
            for at, item in zip(announced.tolist()[::-1], items[::-1], strict=True):
                messages.insert(at, item)
            offsets = np.sort(np.concatenate([place, place[announced] - 1]))
        return Piece(offsets, messages, int(offsets[-1]) + 1)

    def _before(self, place: np.int64) -> int:
        at = int(np.searchsorted(self._scanned(), place))
        return int(self._scanned()[at - 1]) if at else -1

    def _in_order(self) -> Iterator[Rows]:
        """Rows in order of time, once scanned."""
        if self._kept is None:
            yield from self._read_rows()
            return
        yield from self._kept

    def _scanned(self) -> NDArray[np.int64]:
        """Offset of each row's message, by its place in the order of time."""
        if self._place is None:
            self._place = self._scan()
        return self._place

    def _scan(self) -> NDArray[np.int64]:
        pieces: list[Rows] = []
        times: list[Column] = []
        texts: list[Column] = []
        for rows in self._read_rows():
            if self._keep:
                pieces.append(rows)
            times.append(self._times(rows))
            if self._announce is not None:
                texts.append(self._announce.key(rows))
        return self._arranged(pieces, times, texts)

    def _arranged(
        self, pieces: list[Rows], times: list[Column], texts: list[Column]
    ) -> NDArray[np.int64]:
        when = filled(pa.concat_arrays(times)) if times else np.zeros(0, dtype=np.int64)
        order = None
        if np.any(np.diff(when) < 0):
            order = np.argsort(when, kind="stable")
            whole = joined(pieces or list(self._read_rows())).take(order)
            steps = range(0, len(whole), PIECE)
            pieces = [whole.take(np.arange(at, min(at + PIECE, len(whole)))) for at in steps]
        self._kept = pieces if order is not None or self._keep else None
        place = np.arange(len(when), dtype=np.int64)
        if texts:
            said = pa.concat_arrays(texts)
            place += np.cumsum(_first_times(said if order is None else said.take(order)))
        return place


def _first_times(said: Column) -> NDArray[np.bool_]:
    """Which rows say something that no earlier row said."""
    codes = said.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    codes = np.nan_to_num(codes, nan=-1).astype(np.int64)
    new: NDArray[np.bool_] = np.zeros(len(codes), dtype=np.bool_)
    new[np.unique(codes, return_index=True)[1]] = True
    new[codes < 0] = False
    return new
