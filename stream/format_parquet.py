"""Parquet files whose columns are the fields of events."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stream.arrow import Records
from stream.fragments import assemble, digests, literals, row_objects, to_bytes
from stream.lines import suffix
from stream.locate import find, relative
from stream.parts import Part, Piece
from stream.rows import PARQUET_SUFFIXES, open_parquet, parquet_batches


class ParquetEvents:
    """Format ``parquet``: a row is a message, a column a field, null leaves it out.

    Rows keep the order of the file. Without a column ``event_id``, ids are hashes of the rows.
    """

    def parts(self, path: Path) -> Sequence[Part]:
        """One part a file, by name."""
        files = find(path, "parquet", lambda f: suffix(f) in PARQUET_SUFFIXES, PARQUET_SUFFIXES)
        return [_ParquetPart(relative(file, path), file) for file in files]


class _ParquetPart:
    """Offset = row."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def read(self, start: int) -> Iterator[Piece]:
        with open_parquet(self._path) as file:
            at = 0
            for batch in parquet_batches(self._path, file):
                behind = at + batch.num_rows
                if behind > start:
                    wanted = batch.slice(max(0, start - at))
                    offsets = np.arange(behind - wanted.num_rows, behind, dtype=np.int64)
                    yield Piece(offsets, _messages(wanted), behind)
                at = behind

    def end(self) -> int:
        with open_parquet(self._path) as file:
            return int(file.metadata.num_rows)


def _messages(batch: Records) -> list[bytes]:
    names: list[str] = batch.schema.names
    if "event_id" in names:
        return row_objects(batch)
    fields = {name: literals(batch.column(at)) for at, name in enumerate(names)}
    ids = digests(row_objects(batch))
    return to_bytes(assemble({"event_id": ids, **fields}, batch.num_rows))
