"""What was published, and from what: an append-only file, one JSON line a step, hash-chained.

Each line holds its number, the hash of the line before it and its own, so that a line that was
changed, removed from the middle or put elsewhere is found when the file is opened. (Whole lines cut
from the end are not: the publisher compares with the aliases.) A last line without its newline is
what a crash while writing leaves: it is named in `Manifest.torn` and cut off. Every line is on the
disk before `append` returns.
"""

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from consumers.errors import ManifestCorrupt, PublishError
from consumers.index import to_rfc3339
from consumers.manifest_steps import Step
from stream.clock import Clock

FILE = "manifest.jsonl"
"""Its name in a state folder."""
FORMAT = 3
READABLE = (1, 2, 3)
"""Of a line; 1 knew nothing of how a version was learned, 2 nothing of members and decisions."""
_BEFORE_THE_FIRST = "0" * 64


class Line(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    number: int
    at: str
    previous: str
    body: Step
    hash: str = ""

    def sealed(self) -> "Line":
        """Return it with its hash."""
        return self.model_copy(update={"hash": self.digest()})

    def digest(self) -> str:
        """SHA-256 of everything but the hash, in hex."""
        return _digest(self.model_dump(mode="json"))


_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class Manifest:
    """The file, verified, and a way to append to it; several processes may have it open.

    Parameters
    ----------
    path : Path
        Made when it is not there.
    clock : Clock
        Dates the lines.

    Attributes
    ----------
    lines : every line, oldest first
    torn : str or None
        What a crash left unfinished at the end, and was cut off.

    Raises
    ------
    ManifestCorrupt
        If a line is not what was written, with its number and what is wrong.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.torn: str | None = None
        self._clock = clock
        self._read_to = 0
        self._locked = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with self.exclusive():
                pass
        except ManifestCorrupt:
            self.close()
            raise

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Keep other processes from appending inside the block, having read what they appended."""
        if self._locked:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._locked = True
        try:
            self._read_on()
            self._cut_torn_line()
            yield
        finally:
            self._locked = False
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def refresh(self) -> None:
        """Read what others have appended; costs one system call when there is nothing."""
        if os.fstat(self._file).st_size != self._read_to:
            with self.exclusive():
                pass

    def append(self, body: Step) -> None:
        """Write one line and sync it.

        Raises
        ------
        PublishError
            If it could not be written whole; the file is then as it was.
        """
        with self.exclusive():
            previous = self.lines[-1].hash if self.lines else _BEFORE_THE_FIRST
            at = to_rfc3339(self._clock.now_us())
            number = len(self.lines) + 1
            line = Line(number=number, at=at, previous=previous, body=body).sealed()
            data = _canonical(line.model_dump(mode="json")) + b"\n"
            try:
                written = os.write(self._file, data)
                if written != len(data):
                    raise OSError(f"{written} of {len(data)} bytes written")
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, self._read_to)
                raise PublishError(f"{self.path}: cannot append line {number}: {error}") from error
            self._read_to += len(data)
            self.lines.append(line)

    def close(self) -> None:
        """Give the file back; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_on(self) -> None:
        size = os.fstat(self._file).st_size
        if size < self._read_to:
            raise ManifestCorrupt(f"{self.path}: {size} bytes, {self._read_to} were there before")
        data = os.pread(self._file, size - self._read_to, self._read_to)
        whole = data[: data.rfind(b"\n") + 1]
        for raw in whole.splitlines():
            self.lines.append(self._verified(raw))
        self._read_to += len(whole)

    def _cut_torn_line(self) -> None:
        rest = os.fstat(self._file).st_size - self._read_to
        if rest:
            where = f"{self.path}:{len(self.lines) + 1}"
            start = os.pread(self._file, min(rest, 80), self._read_to)
            self.torn = f"{where}: {rest} bytes of an unfinished line were cut off: {start!r}"
            os.ftruncate(self._file, self._read_to)
            os.fsync(self._file)

    def _verified(self, raw: bytes) -> Line:
        number = len(self.lines) + 1
        where = f"{self.path}:{number}"
        try:
            found = cast(object, json.loads(raw))
            written = cast(dict[str, object], found).get("format") if isinstance(found, dict) else 0
            if written not in READABLE:
                raise ManifestCorrupt(
                    f"{where}: format {written}, this program reads 1 to {FORMAT}"
                )
            line = _LINE.validate_python(found)
        except (ValueError, RecursionError, ValidationError) as error:
            raise ManifestCorrupt(f"{where}: not a line of a manifest: {error}") from error
        previous = self.lines[-1].hash if self.lines else _BEFORE_THE_FIRST
        for what, got, expected in (
            ("number", line.number, number),
            ("hash of the line before", line.previous, previous),
            # Of what is written: a line of format 1 lacks what has been added since.
            ("hash", line.hash, _digest(cast(dict[str, object], found))),
        ):
            if got != expected:
                raise ManifestCorrupt(
                    f"{where}: {what} is {got}, expected {expected}: the line was altered or "
                    "moved; restore the file, or publish under another --collection from a new "
                    "state folder"
                )
        return line


def _digest(line: Mapping[str, object]) -> str:
    return sha256(_canonical({k: v for k, v in line.items() if k != "hash"})).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
