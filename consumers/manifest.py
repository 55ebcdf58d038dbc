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
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from consumers.decisions import Decided, How
from consumers.errors import ManifestCorrupt, PublishError
from consumers.index import Names, to_rfc3339
from consumers.index_rules import NAME
from stream.clock import Clock

FILE = "manifest.jsonl"
"""Its name in a state folder."""
FORMAT = 3
READABLE = (1, 2, 3)
"""Of a line; 1 knew nothing of how a version was learned, 2 nothing of what was decided."""
_BEFORE_THE_FIRST = "0" * 64


# They may become folders and paths of requests.
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Collections(_Value):
    """The pair that one fill of a version makes."""

    version: int = Field(ge=1)
    items: Name
    users: Name

    @property
    def names(self) -> Names:
        """The pair, as it is asked for."""
        return Names(self.items, self.users)


class Gates(_Value):
    """What was checked before a flip.

    Attributes
    ----------
    items, users : int
        Points filled, each counted again in the index.
    probes, k : int
        Users for whom ``k`` candidates each were asked for.
    overlap : float
        Share of those candidates that are the best by brute force too, 0 to 1.
    """

    items: int
    users: int
    probes: int
    k: int
    overlap: float


class Origin(_Value):
    """What the vectors were made from: all that it takes to make them again.

    A line of format 1 has the first three alone.

    Attributes
    ----------
    model : str
        Version of the model; what identifies it where it is stored.
    snapshot : str
        Graph snapshot.
    offsets : partition -> next offset
        Of the events in that snapshot.
    snapshot_hash : str
        Its checksum, which covers all its files.
    numbering : int
        Of users, items and edges; it changes when a state is rebuilt without some events.
    files : name -> SHA-256
        Of the version's files.
    parent : str
        Version that it went on from; empty for none.
    anew : bool
        Whether it forgot what its parent had learned.
    edges : int
        Number of the first edge that it does not know.
    window_us : int
        Age beyond which edges are not in the graph, in microseconds; 0 where it is not known.
    config : hyper-parameters that are not the default ones
    config_hash : str
        SHA-256 of all of them.
    seed : int or None
        That its random numbers began with.
    made_with : name -> value
        As `model.circumstances` tells.
    """

    model: str = ""
    snapshot: str = ""
    offsets: Mapping[str, int] = Field(default_factory=dict[str, int])
    snapshot_hash: str = ""
    numbering: int = 0
    files: Mapping[str, str] = Field(default_factory=dict[str, str])
    parent: str = ""
    anew: bool = False
    edges: int = 0
    window_us: int = 0
    config: Mapping[str, object] = Field(default_factory=dict[str, object])
    config_hash: str = ""
    seed: int | None = None
    made_with: Mapping[str, str] = Field(default_factory=dict[str, str])

    @property
    def hash(self) -> str:
        """Of the version's head, and so of all of it; empty where it is not known."""
        return self.files.get("version.json", "")


class Opened(_Value):
    """A publisher took over; those of lower generations must not write any more."""

    step: Literal["opened"] = "opened"
    generation: int = Field(ge=1)


class Begun(_Value):
    """Two collections are about to be made and filled."""

    step: Literal["begun"] = "begun"
    collections: Collections


class Published(_Value):
    """The collections passed the gates and both aliases point at them.

    By ``delta`` they are those that were live, and points of the version before are replaced by and
    by.
    """

    step: Literal["published"] = "published"
    collections: Collections
    origin: Origin
    aliases: Mapping[Name, Name]
    sequence: int
    gates: Gates
    how: How = "flip"


class RolledBack(_Value):
    """Both aliases point at collections published earlier."""

    step: Literal["rolled_back"] = "rolled_back"
    collections: Collections
    aliases: Mapping[Name, Name]
    sequence: int


class Dropped(_Value):
    """These collections are no more (or about to be)."""

    step: Literal["dropped"] = "dropped"
    names: tuple[Name, ...]


class Trained(_Value):
    """A model version was written; whether it is ever published is another line's matter."""

    step: Literal["trained"] = "trained"
    origin: Origin


class Excised(_Value):
    """The state was rebuilt without some users' events, and leaves them out from here on.

    Attributes
    ----------
    users : str
        Glob of the users' ids.
    from_us, to_us : int
        Event times from the first up to, not including, the second, microseconds since the epoch.
    events, matched : int
        Messages left out, and the users they were of.
    how : "replayed" or "in place"
    numbering : int
        That the state has since.
    """

    step: Literal["excised"] = "excised"
    users: str
    from_us: int
    to_us: int
    events: int
    matched: int
    how: Literal["replayed", "in place"]
    numbering: int


Step = Annotated[
    Opened | Begun | Published | RolledBack | Dropped | Trained | Excised | Decided,
    Field(discriminator="step"),
]


class Line(_Value):
    """One line of the file."""

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
