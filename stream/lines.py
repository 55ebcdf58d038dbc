"""Lines of files: read in blocks, numbered, decompressed by their suffix."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.arrow import pa
from stream.errors import SourceError

COMPRESSED: Final = (".gz", ".bz2", ".zst")
LONGEST: Final = 8 * 1_048_576  # far over what the codec takes: the rest of such a line is cut off
_BLOCK: Final = 1_048_576
_MARK: Final = b"\xef\xbb\xbf"


def suffix(path: Path) -> str:
    """The suffix that tells the format: ``.csv`` of ``log.csv.gz``."""
    found = path.suffix.lower()
    return Path(path.stem).suffix.lower() if found in COMPRESSED else found


def open_bytes(path: Path) -> Any:
    """Open for reading.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    try:
        return pa.input_stream(str(path), compression="detect")
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read: {error}. Check that it is readable") from error


def open_text(path: Path, encoding: str = "utf-8-sig") -> io.TextIOWrapper:
    """Open for reading lines; bytes that are no text survive as surrogates.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    return io.TextIOWrapper(
        open_bytes(path), encoding=encoding, errors="surrogateescape", newline="\n"
    )


def numbered_lines(path: Path, piece: int) -> Iterator[tuple[NDArray[np.int64], list[bytes]]]:
    """Lines that hold anything, without their ends, and their numbers; the first line is 0.

    Parameters
    ----------
    piece : int
        At most so many lines at a time.

    Raises
    ------
    SourceError
        If the file cannot be opened or breaks off (a damaged archive).
    """
    start = 0
    kept: list[bytes] = []
    numbers: list[int] = []
    for lines in _split(path):
        for at, line in enumerate(lines, start):
            if line:
                kept.append(line)
                numbers.append(at)
        start += len(lines)
        while len(kept) >= piece:
            yield np.array(numbers[:piece], dtype=np.int64), kept[:piece]
            del kept[:piece], numbers[:piece]
    if kept:
        yield np.array(numbers, dtype=np.int64), kept


def count_lines(path: Path) -> int:
    """How many lines there are, blank ones too."""
    return sum(len(lines) for lines in _split(path))


def _split(path: Path) -> Iterator[list[bytes]]:
    rest = b""
    for at, block in enumerate(_blocks(path)):
        if len(rest) > LONGEST and b"\n" not in block:
            continue
        *whole, rest = (rest + (block if at else block.removeprefix(_MARK))).split(b"\n")
        yield [line.removesuffix(b"\r")[:LONGEST] for line in whole]
    if rest:
        yield [rest.removesuffix(b"\r")[:LONGEST]]


def _blocks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as stream:
        while True:
            try:
                block = stream.read(_BLOCK)
            except (OSError, pa.ArrowException) as error:
                raise SourceError(f"{path}: damaged: {error}. Fetch it again") from error
            if not block:
                return
            yield block
