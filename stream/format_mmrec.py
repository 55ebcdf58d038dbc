"""Interactions as MMRec and RecBole keep them: ``.inter`` files, or the same as Parquet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream import atomic
from stream.arrow import Column, pa, pc
from stream.errors import FormatError
from stream.event_time import parsed
from stream.fragments import text
from stream.interactions import Fields, amounts, interactions
from stream.lines import suffix
from stream.locate import find, relative
from stream.parts import ColumnsPart, Part, Piece
from stream.rows import PARQUET_SUFFIXES, Rows
from stream.table_part import TablePart

_SINCE: Final = datetime(1990, 1, 1, tzinfo=UTC)  # items, and interactions that have no time
_START_US: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_ROW_US: Final = 1_000
_SPLIT_US: Final = 30 * 86_400 * 1_000_000
_SPLITS: Final = ("train", "valid", "test")


class MMRec:
    """Format ``mmrec``: the folder of one data set, or its file of interactions."""

    def parts(self, path: Path) -> Sequence[Part]:
        """Items, if a file describes them, then interactions."""
        files = find(path, "mmrec", _fits, (".inter", "Parquet with a user column"))
        about = [] if files == [path] else find(path, "mmrec", lambda _: True, ())
        items = [file for file in about if _describes_items(file)]
        if len(files) > 1 or len(items) > 1:
            raise FormatError(
                f"{path}: holds more than one data set "
                f"({', '.join(relative(file, path) for file in files + items)}), whose ids would "
                "be mixed up. Name one file, or put each set in a folder of its own"
            )
        said: list[Part] = [
            ColumnsPart(relative(file, path), partial(atomic.load_items, file, _SINCE))
            for file in items
        ]
        return [*said, _part(files[0], relative(files[0], path))]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Names in the file; None for what it does not have."""

    user: str
    item: str
    time: str | None
    value: str | None
    split: str | None

    def wanted(self) -> list[str]:
        return [n for n in (self.user, self.item, self.time, self.value, self.split) if n]


def _fits(file: Path) -> bool:
    if suffix(file) in PARQUET_SUFFIXES:
        found = atomic.header(file)
        return bool(atomic.pick(found, atomic.USER) and atomic.pick(found, atomic.ITEM))
    return suffix(file) == ".inter"


def _describes_items(file: Path) -> bool:
    if suffix(file) in PARQUET_SUFFIXES:
        found = atomic.header(file)
        return not atomic.pick(found, atomic.USER) and bool(atomic.pick(found, atomic.ITEM))
    return suffix(file) == ".item"


def _part(file: Path, name: str) -> Part:
    found = atomic.header(file)
    columns = _Columns(
        atomic.need(file, found, atomic.USER),
        atomic.need(file, found, atomic.ITEM),
        atomic.pick(found, atomic.TIME),
        atomic.pick(found, atomic.VALUE),
        atomic.pick(found, atomic.SPLIT),
    )
    read = partial(atomic.read, file, columns.wanted())
    times = partial(_times, columns)
    part = TablePart(
        name, file, read, lambda rows: parsed(times(rows)), partial(_encode, columns, times)
    )
    if columns.time is None and columns.split is not None:
        return _TrainedFirst(part, partial(_trained, columns, read))
    return part


def _trained(columns: _Columns, read: Callable[[], Iterator[Rows]]) -> int:
    return sum(int((_ranks(columns, rows) == 0).sum()) for rows in read())


def _times(columns: _Columns, rows: Rows) -> Column:
    """The times of the file; where it has none, a row a millisecond, split after split."""
    if columns.time is not None:
        return rows.columns[columns.time]
    times_us = _START_US + _ranks(columns, rows) * _SPLIT_US + rows.number * _ROW_US
    return pa.array(times_us, pa.timestamp("us"))


def _ranks(columns: _Columns, rows: Rows) -> NDArray[np.int64]:
    """Place of each row's split; a label that is none of the three comes last, as test."""
    if columns.split is None:
        return np.zeros(len(rows), dtype=np.int64)
    labels = text(rows.columns[columns.split])
    named = pc.index_in(labels, value_set=pa.array(_SPLITS))
    numbered = pc.index_in(labels, value_set=pa.array(["0", "1", "2"]))
    ranks: NDArray[np.int64] = pc.fill_null(pc.coalesce(named, numbered), 2).to_numpy()
    return ranks.astype(np.int64)


def _encode(columns: _Columns, times: Callable[[Rows], Column], rows: Rows) -> Column:
    more = {"value": amounts(rows.columns[columns.value])} if columns.value is not None else None
    user, item = rows.columns[columns.user], rows.columns[columns.item]
    return interactions(rows, Fields(user, item, times(rows), kind="click", more=more))


class _TrainedFirst:
    """A part whose rows of the training split come first and are learned from, never scored."""

    def __init__(self, part: TablePart, count: Callable[[], int]) -> None:
        self.name = part.name
        self._part = part
        self._count = count

    def read(self, start: int) -> Iterator[Piece]:
        trained = self._count()
        for piece in self._part.read(start):
            at = int(np.searchsorted(piece.offsets, trained))
            if at:
                behind = piece.next_offset if at == len(piece.values) else trained
                yield Piece(piece.offsets[:at], piece.values[:at], behind, history=True)
            if at < len(piece.values):
                yield Piece(piece.offsets[at:], piece.values[at:], piece.next_offset)

    def end(self) -> int:
        return self._part.end()
