"""Immutable files on disk: written once, known by their SHA-256, merged by writing new ones.

A log is a list of pieces, each a file; pieces of one chunk follow each other. A small piece is
merged with the ones before it as soon as it is half as large as they are, so a chunk of n rows
has at most about log2(n) pieces, and a row is written again at most that often.
"""

import errno
import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from stream.errors import SnapshotCorrupt

# pyarrow has no types: these say what is meant where it comes in and goes out
Table: TypeAlias = Any  # a pyarrow.Table
Buffer: TypeAlias = Any  # bytes or a pyarrow.Buffer

_READERS: Final = 2  # threads: hashing and reading need no interpreter
_AHEAD: Final = 8  # pieces in memory that nobody has asked for yet


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment file, and its place in its log.

    Attributes
    ----------
    chunk : int
        Pieces of a chunk are merged with each other only, and dropped together.
    start : int
        Number of the first row.
    """

    chunk: int
    start: int
    rows: int
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Change:
    """Rows to be added to a chunk of a log.

    Attributes
    ----------
    whole : bool
        They replace the chunk.
    seal : bool
        The chunk is complete: make one file of it.
    key : str, or None
        Of rows with the same value in this column, the last one holds.
    """

    log: str
    chunk: int
    start: int
    table: Table
    whole: bool = False
    seal: bool = False
    key: str | None = None


_NAME = re.compile(r"[0-9a-f]{40}\.arrow")
Logs = Mapping[str, tuple[Piece, ...]]


class Segments:
    """The segment files of one folder.

    Parameters
    ----------
    written : called after each file that was written, with its path
    """

    def __init__(self, folder: Path, written: Callable[[Path], None] = lambda _: None) -> None:
        self._folder = folder
        self._written = written
        self.bytes_written = 0
        self.files_written = 0

    def path(self, piece: Piece) -> Path:
        """Where a piece lies.

        Raises
        ------
        SnapshotCorrupt
            If its name is none that is given here: a manifest is not trusted to name other files.
        """
        if not _NAME.fullmatch(str(piece.file)):
            raise SnapshotCorrupt(
                f"{self._folder}: {piece.file!r} is no name of a segment: the manifest was altered"
            )
        return self._folder / piece.file

    def read(self, piece: Piece) -> Table:
        """The rows of a piece.

        Raises
        ------
        SnapshotCorrupt
            If the file is missing, or is not what was written.
        """
        path = self.path(piece)
        try:
            content = read_plain(path)
        except OSError as error:
            raise SnapshotCorrupt(f"{path}: cannot be read: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != piece.sha256:
            raise SnapshotCorrupt(
                f"{path}: SHA-256 is {found}, expected {piece.sha256} ({len(content)} bytes)"
            )
        return pa.ipc.open_file(pa.py_buffer(content)).read_all()

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[Table]:
        """The rows of each piece, in order; others are read and hashed meanwhile.

        Raises
        ------
        As `read`.
        """
        ahead: deque[Future[Table]] = deque()
        with ThreadPoolExecutor(_READERS) as readers:
            for piece in pieces:
                ahead.append(readers.submit(self.read, piece))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def write(self, chunk: int, start: int, table: Table, there: Iterable[Piece] = ()) -> Piece:
        """Write rows to a new file and force it to the disk, unless one of these pieces has them.

        ``there`` must be pieces of the newest snapshot, at the same place.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        piece = Piece(chunk, start, table.num_rows, f"{digest[:40]}.arrow", digest)
        if piece in there:
            return piece
        replace_file(self.path(piece), content)
        self.bytes_written += content.size
        self.files_written += 1
        self._written(self.path(piece))
        return piece

    def extend(self, pieces: tuple[Piece, ...], change: Change) -> tuple[Piece, ...]:
        """Write a change, merging small pieces into it; the pieces that its log now has."""
        before = [p for p in pieces if p.chunk < change.chunk]
        there = [p for p in pieces if p.chunk == change.chunk]
        mine = [] if change.whole else list(there)
        after = [p for p in pieces if p.chunk > change.chunk]
        tables, start, rows = [change.table], change.start, change.table.num_rows
        while mine and (change.seal or mine[-1].rows <= 2 * rows):
            piece = mine.pop()
            tables.insert(0, self.read(piece))
            start, rows = piece.start, rows + piece.rows
        table = pa.concat_tables(tables).combine_chunks()
        if change.key and len(tables) > 1:
            table = _last_of_each(table, change.key)
        return (*before, *mine, self.write(change.chunk, start, table, there), *after)

    def sync(self) -> None:
        """Force the folder itself to the disk: the names of the files."""
        sync_folder(self._folder)

    def remove_all_but(self, files: Iterable[str]) -> None:
        """Delete the files that no snapshot names, and what crashes left behind."""
        kept = set(files)
        with os.scandir(self._folder) as entries:
            gone = [entry.name for entry in entries if entry.name not in kept]
        for name in gone:
            (self._folder / name).unlink(missing_ok=True)


def read_plain(path: Path) -> bytes:
    """Content of a regular file of ours: a link or a pipe in its place is refused.

    Raises
    ------
    OSError
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError("it is a symbolic link, which is not followed") from error
        raise
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is no regular file")
        return file.read()


def replace_file(path: Path, content: Buffer) -> None:
    """Write a file under a temporary name, force it to the disk, and give it its name."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _last_of_each(table: Table, key: str) -> Table:
    """The last row of each key, in order of those rows."""
    keys = table[key].to_numpy()
    _, from_end = np.unique(keys[::-1], return_index=True)
    return table.take(pa.array(np.sort(len(keys) - 1 - from_end))).combine_chunks()
