"""Rows of tables in pieces: CSV and its relatives, Parquet, JSON lines.

Nothing a file holds can vanish here: a row that cannot be read becomes a message that the codec
rejects, in its place. Lines with nothing on them are no rows. Files that end in ``.gz``, ``.bz2``
or ``.zst`` are decompressed on the way.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stream.arrow import Column, Records, pa
from stream.errors import FormatError, SourceError
from stream.fragments import row_objects
from stream.lines import numbered_lines

PIECE: Final = 16_384
JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIXES: Final = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a file.

    Attributes
    ----------
    number : int64[n]
        Where each row stands in the file, the first is 0; the header is not counted.
    columns : name -> n values
        Those asked for, under the names asked for.
    content : n rows as they are in the file (text), or as JSON objects (Parquet)
    unreadable : index in this piece -> the message to send instead
    """

    number: NDArray[np.int64]
    columns: Mapping[str, Column]
    content: Sequence[bytes]
    unreadable: Mapping[int, bytes] = field(default_factory=dict[int, bytes])

    def __len__(self) -> int:
        return len(self.content)

    def take(self, order: NDArray[np.int64]) -> "Rows":
        """The rows at these indices, in this order."""
        place = {int(at): index for index, at in enumerate(order)} if self.unreadable else {}
        return Rows(
            number=self.number[order],
            columns={name: column.take(pa.array(order)) for name, column in self.columns.items()},
            content=[self.content[at] for at in order.tolist()],
            unreadable={place[at]: m for at, m in self.unreadable.items() if at in place},
        )


def joined(pieces: Sequence[Rows], wanted: Sequence[str] = ()) -> Rows:
    """All rows of a file as one piece.

    Parameters
    ----------
    wanted : names of the columns to be there even when there is no row
    """
    if not pieces:
        none = np.zeros(0, dtype=np.int64)
        return Rows(none, {name: pa.array([], pa.string()) for name in wanted}, [])
    starts = np.cumsum([0, *(len(piece) for piece in pieces)]).tolist()
    return Rows(
        number=np.concatenate([piece.number for piece in pieces]),
        columns={
            name: pa.concat_arrays([piece.columns[name] for piece in pieces])
            for name in pieces[0].columns
        },
        content=[row for piece in pieces for row in piece.content],
        unreadable={
            start + at: message
            for start, piece in zip(starts, pieces, strict=False)
            for at, message in piece.unreadable.items()
        },
    )


def unreadable(content: bytes, number: int, problem: str) -> bytes:
    """The message that stands for a row that cannot be read; the codec rejects it."""
    try:
        row = content.decode()
    except UnicodeDecodeError:
        return content  # not even text: the bytes themselves are the evidence
    message = {"type": "unreadable_row", "detail": problem, "row_number": number, "row": row}
    return json.dumps(message, ensure_ascii=False).encode()


def columns_of(path: Path, found: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """Places of the wanted columns; ``user_id`` also finds RecBole's ``user_id:token``.

    Raises
    ------
    FormatError
        If one is not there.
    """
    short = {name.split(":")[0]: at for at, name in reversed(list(enumerate(found)))}
    exact = {name: at for at, name in reversed(list(enumerate(found)))}
    places: dict[str, int] = {}
    for name in wanted:
        at = exact.get(name, short.get(name.split(":")[0] if ":" in name else name))
        if at is None:
            raise FormatError(
                f"{path}: no column {name!r}; it has {', '.join(map(repr, found))}. "
                "Name the columns as they are in the file"
            )
        places[name] = at
    return places


def read_parquet(path: Path, wanted: Sequence[str]) -> Iterator[Rows]:
    """Read a Parquet file, a piece at a time.

    Raises
    ------
    FormatError
        If it is no Parquet file or lacks a column.
    SourceError
        If it breaks off midway.
    """
    with open_parquet(path) as file:
        places = columns_of(path, file.schema_arrow.names, wanted)
        start = 0
        for batch in parquet_batches(path, file):
            yield Rows(
                number=np.arange(start, start + batch.num_rows, dtype=np.int64),
                columns={name: batch.column(at) for name, at in places.items()},
                content=row_objects(batch),
            )
            start += batch.num_rows


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises
    ------
    FormatError
        If it is none.
    """
    try:
        return pq.ParquetFile(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise FormatError(
            f"{path}: not readable as Parquet: {error}. Check the file, or name its true format"
        ) from error


def parquet_batches(path: Path, file: pq.ParquetFile) -> Iterator[Records]:
    """Batches of at most `PIECE` rows.

    Raises
    ------
    SourceError
        If the file breaks off midway.
    """
    try:
        for batch in file.iter_batches(batch_size=PIECE):
            batch.validate(full=True)  # damage may leave strings that are no text
            yield batch
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: damaged: {error}. Fetch or write it again") from error


def read_json(path: Path, wanted: Sequence[str]) -> Iterator[Rows]:
    """Read JSON lines, one object a row; a key that a row lacks is null there."""
    for number, lines in numbered_lines(path, PIECE):
        found: dict[str, list[str | None]] = {name: [] for name in wanted}
        bad: dict[int, bytes] = {}
        for at, line in enumerate(lines):
            row, problem = _json_row(line)
            if problem:
                bad[at] = unreadable(line, int(number[at]), problem)
            for name, values in found.items():
                values.append(_json_text(row.get(name)))
        columns = {name: pa.array(values, pa.string()) for name, values in found.items()}
        yield Rows(number, columns, lines, bad)


def _json_row(line: bytes) -> tuple[Mapping[str, Any], str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"not JSON: {error}"
    if b"\\u" in line and _half_a_character(row):
        return {}, "holds half a character (a lone surrogate)"
    return (row, "") if isinstance(row, dict) else ({}, "JSON, but not an object")


def _half_a_character(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
