"""The edges: five columns that grow by slabs, in 21 bytes an edge.

A slab's memory is asked for at once but only touched as it fills, so a small graph is small. The
columns user, item and time are written once. ``kind`` changes when an edge is retired, erased or
converted: a view shares it until then, and the first change after that copies the slab's kinds
(a byte an edge). ``link`` is no view's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.batch import Kind

T = TypeVar("T", bound=np.generic)

GONE = 0x80  # retired by a click, erased, or replaced: not in the graph any more
SHOWN = 0x40  # began as an impression
ERASED = 0xFF
CLICKED = Kind.IMPRESSION | GONE
CODE = 0x3F  # the bits that hold the `Kind`
EXPOSURE = 0x38  # of an impression: the bits that hold its level (`stream.exposure`)


@dataclass(frozen=True, slots=True)
class EdgeRows:
    """Edges as columns, in order of arrival.

    Attributes
    ----------
    user, item : int32[n]
    time_us : int64[n]
    kind : uint8[n]
        A `Kind`, with the flags `GONE` and `SHOWN`, and an impression's `EXPOSURE`.
    link : uint32[n]
        How many edges ago the user's previous positive one came; 0 for none. Of an impression
        that a click has retired: how many edges later (modulo 2**32) that click came.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time_us: NDArray[np.int64]
    kind: NDArray[np.uint8]
    link: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class EdgeSlice:
    """What a view sees of one slab: read-only columns; edge i has number ``first + i``."""

    first: int
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time_us: NDArray[np.int64]
    kind: NDArray[np.uint8]


class _Slab:
    """Columns of one slab; places not yet filled hold nothing in particular."""

    __slots__ = ("item", "kind", "latest_us", "link", "shared", "time_us", "user")

    def __init__(self, n: int) -> None:
        self.user = np.empty(n, np.int32)
        self.item = np.empty(n, np.int32)
        self.time_us = np.empty(n, np.int64)
        self.kind = np.empty(n, np.uint8)
        self.link = np.empty(n, np.uint32)
        self.shared = False
        self.latest_us: int = np.iinfo(np.int64).min

    def fill(self, at: int, rows: EdgeRows, start: int, stop: int) -> None:
        to, of = slice(at, at + stop - start), slice(start, stop)
        self.user[to] = rows.user[of]
        self.item[to] = rows.item[of]
        self.time_us[to] = rows.time_us[of]
        self.kind[to] = rows.kind[of]  # beyond what any view can see: needs no copy
        self.link[to] = rows.link[of]
        self.latest_us = max(self.latest_us, int(rows.time_us[of].max()))

    def own_kinds(self) -> NDArray[np.uint8]:
        """The kinds to change, apart from what a view holds."""
        if self.shared:
            self.kind = self.kind.copy()
            self.shared = False
        return self.kind


def _frozen(column: NDArray[T]) -> NDArray[T]:
    column.flags.writeable = False
    return column


def codes(kind: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The `Kind` of edges of these stored kinds that are in the graph; uint8[n]."""
    shown = (kind & np.uint8(Kind.IMPRESSION)) == Kind.IMPRESSION
    return np.where(shown, np.uint8(Kind.IMPRESSION), kind & np.uint8(CODE))


def live(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether edges of these stored kinds are in the graph."""
    return kind < GONE


def chained(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether edges of these stored kinds are links of their user's chain, gone or not."""
    return (kind & np.uint8(CODE)) < Kind.IMPRESSION


def positive(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether edges of these stored kinds are in the graph and stand for something liked."""
    return (kind & np.uint8(0xFF ^ SHOWN)) < Kind.IMPRESSION


class EdgeLog:
    """Append-only edges, numbered by arrival; the oldest can be dropped, a slab at a time.

    Parameters
    ----------
    slab_rows : int
        Edges a slab; a power of two.
    """

    def __init__(self, slab_rows: int = 1 << 22) -> None:
        if slab_rows < 1 or slab_rows & (slab_rows - 1):
            raise ValueError(f"slab_rows is a power of two: got {slab_rows}")
        self._shift = slab_rows.bit_length() - 1
        self._rows = slab_rows
        self._slabs: list[_Slab] = []
        self.first = 0
        self.next = 0

    def __len__(self) -> int:
        return self.next - self.first

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the edges held have touched."""
        return 21 * len(self)

    def append(self, rows: EdgeRows) -> None:
        """Add edges; the first gets the number ``next``."""
        done = 0
        while done < len(rows):
            if len(self) == len(self._slabs) * self._rows:
                self._slabs.append(_Slab(self._rows))
            at = len(self) & (self._rows - 1)
            n = min(len(rows) - done, self._rows - at)
            self._slabs[-1].fill(at, rows, done, done + n)
            self.next += n
            done += n

    def start_at(self, first: int) -> None:
        """Begin an empty log at this number."""
        if self._slabs:
            raise ValueError("only an empty log can be told where to start")
        self.first = self.next = first

    # -- reading

    def user(self, sequence: NDArray[np.int64]) -> NDArray[np.int32]:
        """Users of these edges; int32[n]."""
        return self._take(sequence, np.empty(len(sequence), np.int32), lambda s: s.user)

    def item(self, sequence: NDArray[np.int64]) -> NDArray[np.int32]:
        """Items of these edges; int32[n]."""
        return self._take(sequence, np.empty(len(sequence), np.int32), lambda s: s.item)

    def time_us(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of these edges; int64[n]."""
        return self._take(sequence, np.empty(len(sequence), np.int64), lambda s: s.time_us)

    def kind(self, sequence: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Stored kinds of these edges; uint8[n]."""
        return self._take(sequence, np.empty(len(sequence), np.uint8), lambda s: s.kind)

    def link(self, sequence: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Links of these edges; uint32[n]."""
        return self._take(sequence, np.empty(len(sequence), np.uint32), lambda s: s.link)

    def _take(
        self, sequence: NDArray[np.int64], out: NDArray[T], of: Callable[[_Slab], NDArray[T]]
    ) -> NDArray[T]:
        at = sequence - self.first
        if not self._slabs:
            return out
        if len(self._slabs) == 1:
            of(self._slabs[0]).take(at, out=out)
            return out
        slab = at >> self._shift
        for i in np.flatnonzero(np.bincount(slab, minlength=len(self._slabs))):
            mine = np.flatnonzero(slab == i)
            out[mine] = of(self._slabs[i])[at[mine] & (self._rows - 1)]
        return out

    def rows(self, start: int, stop: int) -> EdgeRows:
        """Edges ``start`` to ``stop - 1``, copied."""
        sequence = np.arange(start, stop, dtype=np.int64)
        return EdgeRows(
            self.user(sequence),
            self.item(sequence),
            self.time_us(sequence),
            self.kind(sequence),
            self.link(sequence),
        )

    def slices(self) -> Iterator[EdgeSlice]:
        """All edges, a slab at a time; read-only, and only good until the next change."""
        for i, slab in enumerate(self._slabs):
            n = min(self._rows, len(self) - i * self._rows)
            yield EdgeSlice(
                self.first + i * self._rows,
                _frozen(slab.user[:n]),
                _frozen(slab.item[:n]),
                _frozen(slab.time_us[:n]),
                _frozen(slab.kind[:n]),
            )

    def view(self) -> tuple[EdgeSlice, ...]:
        """All edges as they are now, for good, sharing the memory of what does not change."""
        for slab in self._slabs:
            slab.shared = True
        return tuple(self.slices())

    # -- one edge

    def user_at(self, sequence: int) -> int:
        """User of one edge."""
        slab, at = self._place(sequence)
        return int(slab.user[at])

    def time_us_at(self, sequence: int) -> int:
        """Time of one edge."""
        slab, at = self._place(sequence)
        return int(slab.time_us[at])

    def kind_at(self, sequence: int) -> int:
        """Stored kind of one edge."""
        slab, at = self._place(sequence)
        return int(slab.kind[at])

    def link_at(self, sequence: int) -> int:
        """Link of one edge."""
        slab, at = self._place(sequence)
        return int(slab.link[at])

    def set_kind(self, sequence: int, kind: int) -> None:
        """Change the stored kind of one edge."""
        slab, at = self._place(sequence)
        slab.own_kinds()[at] = kind

    def set_link(self, sequence: int, link: int) -> None:
        """Change the link of one edge."""
        slab, at = self._place(sequence)
        slab.link[at] = link

    def _place(self, sequence: int) -> tuple[_Slab, int]:
        at = sequence - self.first
        return self._slabs[at >> self._shift], at & (self._rows - 1)

    # -- many edges at once

    def amend(
        self, sequence: NDArray[np.int64], kind: NDArray[np.uint8], link: NDArray[np.uint32]
    ) -> None:
        """Change kinds and links; an edge that is blanked loses item and time as well."""
        at = sequence - self.first
        for i, slab in enumerate(self._slabs):
            mine = np.flatnonzero(at >> self._shift == i)
            to = at[mine] & (self._rows - 1)
            slab.own_kinds()[to] = kind[mine]
            slab.link[to] = link[mine]

    def erase(self, users: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Blank every edge of these users: neither item nor time remains.

        Parameters
        ----------
        users : bool[U]

        Returns
        -------
        int64[n]
            Numbers of the edges blanked, ascending.
        """
        blanked: list[NDArray[np.int64]] = []
        for i, slab in enumerate(self._slabs):
            n = min(self._rows, len(self) - i * self._rows)
            at = np.flatnonzero(users[slab.user[:n]] & (slab.kind[:n] != ERASED))
            if len(at):
                slab.own_kinds()[at] = ERASED
                slab.item[at] = 0
                slab.time_us[at] = 0
                slab.link[at] = 0
            blanked.append(at + (self.first + i * self._rows))
        return np.concatenate(blanked) if blanked else np.empty(0, np.int64)

    def drop_before(self, horizon_us: int) -> int:
        """Give back the memory of the oldest slabs that are full and wholly before a time.

        Returns
        -------
        int
            Edges dropped.
        """
        dropped = 0
        while len(self) >= self._rows and self._slabs[0].latest_us < horizon_us:
            del self._slabs[0]
            self.first += self._rows
            dropped += self._rows
        return dropped
