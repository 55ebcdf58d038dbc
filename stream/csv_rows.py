"""Rows of CSV and of other text with one row a line.

A stray quote must not swallow the rest of the file: a row that cannot be read ends with its line,
and reading goes on with the next. Quoted fields may hold line ends.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import numpy as np

from stream.arrow import pa
from stream.errors import FormatError, SourceError
from stream.lines import open_text
from stream.rows import PIECE, Rows, columns_of, unreadable

_SEPARATORS: Final = ("\t", ",", ";", "|")
_Record = tuple[list[str], str, str]  # fields, text of the row, what is wrong with it


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is written.

    Attributes
    ----------
    separator : one or more characters; None: the likeliest by the first line
    header : names of the columns of a file that does not name them
    quoting : whether a quote is more than a character; None: only between commas
    """

    separator: str | None = None
    header: tuple[str, ...] | None = None
    quoting: bool | None = None
    encoding: str = "utf-8-sig"


def read_csv(path: Path, wanted: Sequence[str], layout: Layout) -> Iterator[Rows]:
    """Read a text file, a piece at a time; all values are strings, null where empty.

    Raises
    ------
    FormatError
        If it is empty, its first line is no header, or it lacks a column.
    SourceError
        If it breaks off midway (a damaged archive).
    """
    with open_text(path, layout.encoding) as stream:
        lines = _lines(path, stream)
        first = next(lines, None)
        if first is None:
            raise FormatError(f"{path}: is empty, expected rows of a table")
        separator = layout.separator or _likeliest(first)
        quoting = layout.quoting if layout.quoting is not None else separator == ","
        if len(separator) > 1:
            first, lines = first.replace(separator, "\t"), _replaced(lines, separator)
            separator = "\t"
        records = _Records(lines, separator, quoting=quoting)
        if layout.header is None:
            header = _header(path, records, first)
        else:
            header = list(layout.header)
            records.push_back(first)
        yield from _pieces(path, records, header, wanted, layout.encoding)


def _header(path: Path, records: "_Records", line: str) -> list[str]:
    try:
        ((fields, _, _),) = records.parse([line])
    except (csv.Error, ValueError) as error:
        raise FormatError(
            f"{path}: its first line is no header: {error}. Check the file, or name its true format"
        ) from error
    return fields


def header_of(path: Path, layout: Layout) -> list[str]:
    """The first row of a file, for telling formats apart; empty if there is none."""
    with open_text(path, layout.encoding) as stream:
        first = next(_lines(path, stream), "")
    separator = layout.separator or _likeliest(first)
    return first.strip("\r\n").split(separator)


def _pieces(
    path: Path, records: "_Records", header: list[str], wanted: Sequence[str], encoding: str
) -> Iterator[Rows]:
    places = columns_of(path, header, wanted)
    start = 0
    while found := records.next_piece():
        number = np.arange(start, start + len(found), dtype=np.int64)
        start += len(found)
        filled = np.array([bool(text.strip("\r\n")) for _, text, _ in found])
        yield _rows(
            [record for record, full in zip(found, filled.tolist(), strict=True) if full],
            number[filled],
            places,
            len(header),
            "utf-8" if encoding == "utf-8-sig" else encoding,
        )


def _rows(
    found: Sequence[_Record],
    number: np.ndarray[tuple[int], np.dtype[np.int64]],
    places: dict[str, int],
    width: int,
    encoding: str,
) -> Rows:
    content = [text.rstrip("\r\n").encode(encoding, "surrogateescape") for _, text, _ in found]
    if encoding != "utf-8":
        content = [row.decode(encoding).encode() for row in content]
    bad: dict[int, bytes] = {}
    for at, (fields, _, problem) in enumerate(found):
        if problem or len(fields) != width:
            said = problem or f"got {len(fields)} fields, expected {width}"
            bad[at] = unreadable(content[at], int(number[at]), said)
        elif not content[at].isascii() and not _is_text(content[at]):
            bad[at] = content[at]
    columns = {
        name: pa.array(
            [None if at in bad else (r[0][place] or None) for at, r in enumerate(found)],
            pa.string(),
        )
        for name, place in places.items()
    }
    return Rows(number, columns, content, bad)


class _Records:
    """Rows out of lines: all of a piece at once where that works, else one by one."""

    def __init__(self, lines: Iterator[str], separator: str, *, quoting: bool) -> None:
        self._lines = lines
        self._separator = separator
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
        self._pending: deque[str] = deque()

    def push_back(self, line: str) -> None:
        self._pending.appendleft(line)

    def parse(self, lines: Sequence[str]) -> Iterator[_Record]:
        rows = csv.reader(
            lines, delimiter=self._separator, quoting=self._quoting, strict=True
        )  # fmt: skip
        for fields, line in zip(rows, lines, strict=True):
            yield fields, line, ""

    def next_piece(self) -> list[_Record]:
        taken = [self._pending.popleft() for _ in range(min(PIECE, len(self._pending)))]
        taken.extend(islice(self._lines, PIECE - len(taken)))
        try:
            return list(self.parse(taken))
        except (csv.Error, ValueError):  # a bad row, or one of several lines
            self._pending.extendleft(reversed(taken))
            return list(islice(self._one_by_one(), len(taken)))

    def _one_by_one(self) -> Iterator[_Record]:
        while True:
            taken: list[str] = []
            reader = csv.reader(
                self._feed(taken), delimiter=self._separator, quoting=self._quoting, strict=True
            )
            try:
                fields = next(reader, None)
            except csv.Error as error:
                self._pending.extendleft(reversed(taken[1:]))
                yield [], taken[0], f"as CSV: {error}"
                continue
            if fields is None:
                return
            yield fields, "".join(taken), ""

    def _feed(self, taken: list[str]) -> Iterator[str]:
        while True:
            line = self._pending.popleft() if self._pending else next(self._lines, None)
            if line is None:
                return
            taken.append(line)
            yield line


def _lines(path: Path, stream: Iterator[str]) -> Iterator[str]:
    try:
        yield from stream
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: damaged: {error}. Fetch it again") from error


def _replaced(lines: Iterator[str], separator: str) -> Iterator[str]:
    return (line.replace(separator, "\t") for line in lines)


def _likeliest(line: str) -> str:
    return max(_SEPARATORS, key=line.count)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
