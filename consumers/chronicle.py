"""What the manifest tells a person: every version, what one is made of, and why an item is there.

Nothing here changes anything, beside cutting off a line that a crash has left unfinished.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from consumers.decisions import Decided
from consumers.errors import SettingsError, VersionMissing
from consumers.heads import HEAD, rewritten
from consumers.manifest import Line, Manifest
from consumers.manifest_steps import Origin, Published, Rewritten, RolledBack, Trained
from consumers.publications import Publications
from consumers.settings import Settings
from consumers.versions import Versions
from model.version import digests
from stream.clock import Clock
from stream.errors import SnapshotCorrupt
from stream.snapshot import SnapshotStore
from stream.state import JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """A version as the manifest knows it.

    Attributes
    ----------
    line : Line
        Where it was last published; where it was learned, if it never was.
    status : str
        ``live``, ``kept`` (a rollback returns to it), ``dropped``, ``unpublished``.
    withdrawn : bool
        Whether readers were taken back from it.
    was : Origin or None
        It before an erasure last rewrote its head; None if none did.
    """

    number: int
    line: Line
    origin: Origin
    status: str
    withdrawn: bool
    was: Origin | None = None

    @property
    def published(self) -> Published | None:
        """How it was last published, if it was."""
        return self.line.body if isinstance(self.line.body, Published) else None

    def brief(self) -> dict[str, JSON]:
        """A line of the list, as plain JSON."""
        published = self.published
        return {
            "version": self.number,
            "at": self.line.at,
            "status": self.status,
            "withdrawn": self.withdrawn,
            "snapshot": self.origin.snapshot,
            "offsets": dict(self.origin.offsets),
            "model_hash": self.origin.hash,
            "parent": self.origin.parent,
            "gates": None if published is None else published.gates.model_dump(mode="json"),
        }


def read(path: Path, clock: Clock) -> list[Line]:
    """All lines, verified.

    Raises
    ------
    SettingsError
        There is no manifest.
    ManifestCorrupt
        A line has been altered.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no manifest; nothing was learned or published here yet")
    with closing(Manifest(path, clock)) as manifest:
        return manifest.lines


def entries(lines: Sequence[Line]) -> list[Entry]:
    """Every version that was learned or published, the oldest first."""
    state = Publications()
    state.advance(lines)
    last: dict[int, tuple[Line, Origin]] = {}
    was: dict[int, Origin] = {}
    left: set[int] = set()
    live = 0
    for line in lines:
        body = line.body
        if isinstance(body, Published):
            live = body.collections.version
            last[live] = line, _fuller(body.origin, last.get(live))
        elif isinstance(body, Trained):
            number = int(body.origin.model)
            known = last.get(number)
            same = known is not None and known[1].hash in ("", body.origin.hash)
            last[number] = (known[0] if known and same else line), body.origin
        elif isinstance(body, Rewritten) and (known := last.get(int(body.model))) is not None:
            number = int(body.model)
            last[number], was[number] = (known[0], rewritten(known[1], body)), known[1]
        elif isinstance(body, RolledBack):
            left.add(live)
            live = body.collections.version
    return [
        Entry(number, line, origin, _status(line, state), number in left, was.get(number))
        for number, (line, origin) in sorted(last.items())
    ]


def _fuller(origin: Origin, known: tuple[Line, Origin] | None) -> Origin:
    """What was written when it was learned, where a publisher of before knew less."""
    return known[1] if known is not None and not origin.hash else origin


def _status(line: Line, state: Publications) -> str:
    if not isinstance(line.body, Published):
        return "unpublished"
    if line.body.collections == state.live:
        return "live"
    return "kept" if line.body.collections == state.previous else "dropped"


def entry(lines: Sequence[Line], number: int, path: Path) -> Entry:
    """One version.

    Raises
    ------
    VersionMissing
        The manifest knows none of this number.
    """
    found = entries(lines)
    for one in found:
        if one.number == number:
            return one
    raise VersionMissing(f"{path}: no version {number}; there are {[one.number for one in found]}")


def shown(settings: Settings, number: int, clock: Clock) -> dict[str, JSON]:
    """All that is known of a version, and whether what it names is still what it was."""
    lines = read(settings.manifest, clock)
    found = entry(lines, number, settings.manifest)
    model, snapshot = _model(settings, found), _snapshot(settings, found.origin, clock)
    published = found.published
    return {
        **found.brief(),
        "line": found.line.number,
        "line_hash": found.line.hash,
        "collections": None
        if published is None
        else published.collections.model_dump(mode="json", exclude={"version"}),
        "sequence": None if published is None else published.sequence,
        "origin": found.origin.model_dump(mode="json"),
        "rollbacks": [
            line.at
            for line in lines
            if isinstance(line.body, RolledBack) and line.body.collections.version == number
        ],
        "decisions": [
            {"at": line.at, **line.body.model_dump(mode="json", exclude={"step", "version"})}
            for line in lines
            if isinstance(line.body, Decided) and line.body.version == number
        ],
        "checks": {"chain": f"whole: {len(lines)} lines", "model": model, "snapshot": snapshot},
        "ok": not model.startswith(("altered", "unfinished"))
        and not snapshot.startswith("altered"),
    }


def _model(settings: Settings, found: Entry) -> str:
    if not found.origin.files:
        return "not checked: the line is of a program that wrote no hashes"
    try:
        version = Versions(settings.models_dir).open(found.number)
    except VersionMissing:
        return "pruned"
    got, path = digests(version.path), version.path
    if found.was is None:
        return _compared(got, found.origin.files, path)
    if got == found.was.files:
        return f"unfinished: an erasure that rewrites {path / HEAD} was cut off: erase again"
    compared = _compared(got, found.origin.files, path)
    return compared.replace("as recorded", "rewritten by an erasure, since then as recorded")


def _compared(got: Mapping[str, str], expected: Mapping[str, str], path: Path) -> str:
    for name in sorted({*got, *expected}):
        if got.get(name) != expected.get(name):
            return (
                f"altered: {path / name} has SHA-256 {got.get(name)}, the manifest says "
                f"{expected.get(name)}"
            )
    return f"as recorded: {len(expected)} files"


def _snapshot(settings: Settings, origin: Origin, clock: Clock) -> str:
    if not origin.snapshot.isdecimal():
        return "none named"
    try:
        info = SnapshotStore(settings.graph_dir, clock).find(int(origin.snapshot))
    except SnapshotCorrupt as error:
        return f"altered: {error}"
    if info is None:
        return "pruned"
    if origin.snapshot_hash and info.sha256 != origin.snapshot_hash:
        return (
            f"altered: {info.path} has SHA-256 {info.sha256}, the manifest says "
            f"{origin.snapshot_hash}"
        )
    return "there"
