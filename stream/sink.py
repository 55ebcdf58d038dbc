"""Where messages go: events to a file or a topic, dead letters beside them."""

import base64
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from stream.batch import Headers, Partition
from stream.errors import SinkError

LETTER_BYTES: Final = 1_048_576  # of a message are kept in a file; its true size is kept too


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that could not be applied.

    Attributes
    ----------
    partition, offset : where it came from
    value : bytes
        The message as it arrived.
    reason : str
        Slug, by which letters are counted.
    detail : str
        What was got against what was expected.
    """

    partition: Partition
    offset: int
    value: bytes
    reason: str
    detail: str
    headers: Headers = ()


class DeadLetterSink(Protocol):
    """Where messages go that could not be applied.

    A letter may arrive twice: what was put after the last saved state comes again after a crash.
    """

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Take letters; they are safe after the next `flush`.

        Raises
        ------
        SinkError
            If they cannot be written.
        """
        ...

    def flush(self) -> None:
        """Return when all letters so far survive a crash of the machine.

        Raises
        ------
        SinkError
            If they cannot be written.
        """
        ...

    def close(self) -> None:
        """Flush and give back files and connections; idempotent."""
        ...


class NoLetters:
    """A `DeadLetterSink` that keeps nothing: for who reads again what is on record already."""

    def put(self, letters: Sequence[DeadLetter]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class EventSink(Protocol):
    """Where messages are sent."""

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        """Take messages, in order; ``keys`` choose the partition where there are several.

        Raises
        ------
        SinkError
            If they cannot be sent.
        """
        ...

    def flush(self) -> None:
        """Return when all messages so far have arrived.

        Raises
        ------
        SinkError
            If they cannot be sent.
        """
        ...

    def close(self) -> None:
        """Flush and give back files and connections; idempotent."""
        ...


class FileDeadLetters:
    """A `DeadLetterSink` in a file, one JSON object a line; goes on where an earlier run ended.

    A line holds ``topic``, ``partition``, ``offset``, ``reason``, ``detail``, ``bytes`` (the
    message's size), ``value`` (text) or ``value_base64``, and ``headers`` where there are any. At
    most `LETTER_BYTES` of a message are kept; ``truncated`` says when it was longer.

    Parameters
    ----------
    path : Path
        Its folder is made when missing.

    Attributes
    ----------
    counts : reason -> letters put by this run

    Raises
    ------
    SinkError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._file = _Appended(path)

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self._file.write(b"".join(map(_line, letters)))
        self.counts.update(letter.reason for letter in letters)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class FileSink:
    """An `EventSink` into a file, one message a line, as the format ``jsonl`` reads it.

    Line ends within a message become spaces: JSON knows them only between its tokens.

    Parameters
    ----------
    path : Path
        Messages are appended; its folder is made when missing.

    Raises
    ------
    SinkError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = _Appended(path)

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        """Append messages; a file has no use for keys."""
        if b"" in values:
            raise SinkError(
                f"{self._file.path}: an empty message (a tombstone) has no line of its own. "
                "Send erase_user or item_removed instead"
            )
        lines = [value.replace(b"\r", b" ").replace(b"\n", b" ") for value in values]
        self._file.write(b"".join(line + b"\n" for line in lines))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Appended:
    """A file that grows by whole lines.

    A last line without an end was being written when an earlier run was killed. It is cut off: it
    had not been flushed, so no saved state counts on it, and its message comes again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(path)
            self._file: BinaryIO = path.open("ab")
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error}. Name another file") from error

    def write(self, lines: bytes) -> None:
        try:
            self._file.write(lines)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        try:
            self._file.flush()
            if self.path.is_file():  # a pipe or a terminal cannot be synced
                os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            with suppress(OSError):  # what `flush` could not write, this cannot either
                self._file.close()

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self.path}: {error}. Free space on its disk, or name another file")


def _cut_torn_line(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65_536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)


def _line(letter: DeadLetter) -> bytes:
    kept = letter.value[:LETTER_BYTES]
    line: dict[str, Any] = {
        "topic": letter.partition.topic,
        "partition": letter.partition.number,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "bytes": len(letter.value),
        **_readable("value", kept),
    }
    if len(kept) < len(letter.value):
        line["truncated"] = True
    if letter.headers:
        line["headers"] = [{"name": n, **_readable("value", v)} for n, v in letter.headers]
    # Detail may quote half a character from the message: escaped, it is still JSON.
    return json.dumps(line).encode() + b"\n"


def _readable(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
