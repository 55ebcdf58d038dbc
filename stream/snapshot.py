"""Snapshots: the whole state on disk, at a cost that grows with what has changed.

The order of a commit. A crash between any two steps leaves the old snapshot or the new one, whole:

1. the caller has stopped polling: nothing changes the state now;
2. new segments are written, each to a temporary name, forced to the disk and renamed;
3. the manifest is written the same way, and the folder forced to the disk: now the snapshot is;
4. it is announced;
5. offsets are committed to where lag tools look.

Only then are files deleted that no kept snapshot names.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream import manifest as manifests
from stream.batch import Partition
from stream.catalog import Catalog
from stream.clock import Clock
from stream.errors import SnapshotCorrupt, StoreUnwritable
from stream.manifest import Manifest
from stream.ordering import OrderingConfig
from stream.restore import Restorer, small_state
from stream.segments import Piece, Segments, replace_file, sync_folder
from stream.state import JSON, State, changes, first_chunks
from stream.view import GraphConfig, GraphView
from stream.vocabulary import Vocabulary
from stream.writer_lock import WriterLock

T = TypeVar("T")
KEEP: Final = 3


class Step(IntEnum):
    """The steps of a commit; a step is reported when it is done."""

    STOPPED = 1
    SEGMENTS = 2
    MANIFEST = 3
    ANNOUNCED = 4
    OFFSETS = 5


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot is, in short.

    Attributes
    ----------
    number : int
    path : Path
        Its manifest.
    sha256 : str
        Its identity: the checksum of all that it consists of.
    created_us : int
        Wall time it was written, microseconds since the epoch.
    positions : partition -> next offset to read
    edges : int
        Edges ever appended; the next edge gets this number.
    files_written, bytes_written : int
        What the commit cost; 0 for one that was found.
    """

    number: int
    path: Path
    sha256: str
    created_us: int
    positions: Mapping[Partition, int]
    edges: int
    files_written: int = 0
    bytes_written: int = 0


@dataclass(frozen=True, slots=True)
class Damaged:
    """A snapshot that was passed over, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class OpenedView:
    """What somebody who learns from a snapshot needs of it.

    Attributes
    ----------
    users, items : names by number; ``""`` for an erased user
    numbering : int
        As `stream.state.State` has it.
    """

    info: SnapshotInfo
    view: GraphView
    users: Vocabulary
    items: Vocabulary
    catalog: Catalog
    extra: Mapping[str, JSON]
    arrays: Mapping[str, NDArray[np.generic]]
    numbering: int = 0


def _nothing(_: object) -> None:
    pass


class SnapshotStore:
    """A folder of snapshots. Any number may read it, one may write.

    Parameters
    ----------
    root : Path
    clock : Clock
    keep : int
        Snapshots kept; at least 2, so that one whose disk failed is not the only one.
    step : called as a commit goes on, several times at one step; for tests of crashes
    pinned : callable
        Numbers of snapshots that are kept beside the newest, unless a user that they know has been
        erased since.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        keep: int = KEEP,
        step: Callable[[Step], None] = _nothing,
        pinned: Callable[[], Collection[int]] = tuple[int, ...],
    ) -> None:
        if keep < 2:
            raise ValueError(f"keep is at least 2: got {keep}")
        self._clock = clock
        self._keep = keep
        self.step = step
        self._pinned = pinned
        self._folder = root / "snapshots"
        self._segment_folder = root / "segments"
        self._lock = WriterLock(root / "writer.lock")
        self._last: Manifest | None = None
        self._files: dict[int, set[str]] = {}  # of snapshots whose manifest is known
        self.damaged: tuple[Damaged, ...] = ()

    # -- writing

    def commit(
        self,
        state: State,
        *,
        announce: Callable[[SnapshotInfo], None] = _nothing,
        advise: Callable[[Mapping[Partition, int]], None] = _nothing,
    ) -> SnapshotInfo:
        """Save a state; what was saved of it before is not written again.

        Parameters
        ----------
        announce : called with the new snapshot once it is there (step 4)
        advise : called with its positions after that (step 5)

        Raises
        ------
        StoreInUse
            If another process writes to this store.
        StoreUnwritable
            If the disk is full or may not be written to: the snapshot before is as it was.
        """
        try:
            return self._commit(state, announce, advise)
        except OSError as error:
            raise StoreUnwritable(
                f"{self._folder.parent}: a snapshot cannot be written: {error}. "
                "Free space, or let this user write there; what came since will be read again"
            ) from error

    def _commit(
        self,
        state: State,
        announce: Callable[[SnapshotInfo], None],
        advise: Callable[[Mapping[Partition, int]], None],
    ) -> SnapshotInfo:
        self.acquire()
        state.hide()
        self.step(Step.STOPPED)  # 1
        segments = Segments(self._segment_folder, lambda _: self.step(Step.SEGMENTS))
        manifest = self._write_segments(state, segments)  # 2
        segments.sync()
        path = self._path(manifest.number)
        content, digest = manifests.to_bytes(manifest)
        self.step(Step.SEGMENTS)
        replace_file(path, content)  # 3
        sync_folder(self._folder)
        manifest = replace(manifest, sha256=digest)
        self._last, state.saved_as = manifest, digest
        self._files[manifest.number] = manifest.files
        state.mark_saved()
        self.step(Step.MANIFEST)
        info = _info(path, manifest, segments)
        announce(info)  # 4
        self.step(Step.ANNOUNCED)
        advise(state.positions)  # 5
        self.step(Step.OFFSETS)
        self._prune(segments)
        return info

    def _write_segments(self, state: State, segments: Segments) -> Manifest:
        """Write what the last snapshot of this state does not hold."""
        logs: dict[str, tuple[Piece, ...]] = {}
        if self._last is not None and self._last.sha256 == state.saved_as:
            logs.update(self._last.logs)
        wanted = {f"array/{name}" for name in state.arrays}
        logs = {n: p for n, p in logs.items() if not n.startswith("array/") or n in wanted}
        for log, first in first_chunks(state).items():
            logs[log] = tuple(p for p in logs.get(log, ()) if p.chunk >= first)
        for change in changes(state, dict(logs)):
            logs[change.log] = segments.extend(logs.get(change.log, ()), change)
        latest = max(self._numbers(), default=0)
        return Manifest(
            number=latest + 1,
            created_us=self._clock.now_us(),
            positions=dict(state.positions),
            state={**small_state(state), "released": self._released(state, latest)},
            extra=dict(state.extra),
            logs={name: pieces for name, pieces in logs.items() if pieces},
        )

    def _released(self, state: State, latest: int) -> int:
        """Newest snapshot that no pin holds: it may know a user that has been erased."""
        if state.graph.users.erased:
            return latest
        return 0 if self._last is None else int(self._last.state.get("released", 0))

    def _prune(self, segments: Segments) -> None:
        """Delete old snapshots, and the segments that only they had."""
        kept: set[str] = set()
        readable = 0
        released = 0 if self._last is None else int(self._last.state["released"])
        pinned = {number for number in self._pinned() if number > released}
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            try:
                files = self._files.get(number) or manifests.read(path).files
            except SnapshotCorrupt:
                continue  # kept as evidence; what it names is not known
            readable += 1
            if readable > self._keep and number not in pinned:
                path.unlink()
                self._files.pop(number, None)
            else:
                kept |= files
                self._files[number] = files
        segments.remove_all_but(kept)

    def close(self) -> None:
        """Let others write; idempotent."""
        self._lock.give_back()

    def acquire(self) -> None:
        """Be the one who writes, until `close`; idempotent.

        Raises
        ------
        StoreInUse
            If another process writes to this store.
        """
        for folder in (self._folder, self._segment_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()

    # -- reading

    def newest(self) -> SnapshotInfo | None:
        """The newest snapshot all of whose files are what was written; None if there never was one.

        Those passed over are named in `damaged`.

        Raises
        ------
        SnapshotCorrupt
            If there are snapshots, but none is valid.
        SnapshotForeign
            If the newest readable one is of another format version.
        """

        def check(manifest: Manifest, segments: Segments) -> SnapshotInfo:
            for pieces in manifest.logs.values():
                for _ in segments.read_all(pieces):
                    pass
            return _info(self._path(manifest.number), manifest)

        return self._first_valid(check)

    def find(self, number: int) -> SnapshotInfo | None:
        """One snapshot by its manifest, which is checked; None if it is not kept."""
        path = self._path(number)
        return _info(path, manifests.read(path)) if path.exists() else None

    def latest(self) -> int:
        """Number of the newest snapshot, not looked into; 0 if there is none."""
        return max(self._numbers(), default=0)

    def load(
        self, graph: GraphConfig | None = None, ordering: OrderingConfig | None = None
    ) -> State | None:
        """The state of the newest valid snapshot; None if there never was one.

        Raises
        ------
        SnapshotCorrupt
            If there are snapshots, but none is valid.
        SnapshotForeign
            If it is of another format version, or of a configuration that does not fit.
        """

        def restore(manifest: Manifest, segments: Segments) -> State:
            state = Restorer(manifest, segments).state(
                graph or GraphConfig(), ordering or OrderingConfig()
            )
            self._last = manifest
            return state

        return self._first_valid(restore)

    def open_view(
        self, graph: GraphConfig | None = None, number: int | None = None
    ) -> OpenedView | None:
        """The newest valid snapshot for reading only; None if there never was one.

        With a ``number`` that one, and no other: None then if it is not kept.

        Raises
        ------
        As `load`.
        """

        def restore(manifest: Manifest, segments: Segments) -> OpenedView:
            restorer = Restorer(manifest, segments)
            found = restorer.graph(graph or GraphConfig())
            return OpenedView(
                info=_info(self._path(manifest.number), manifest),
                view=found.view(),
                users=found.users,
                items=found.items,
                catalog=found.catalog,
                extra=manifest.extra,
                arrays=restorer.arrays(),
                numbering=manifest.state.get("numbering", 0),
            )

        return self._first_valid(restore, self._numbers() if number is None else [number])

    def _first_valid(
        self, use: Callable[[Manifest, Segments], T], among: Collection[int] | None = None
    ) -> T | None:
        """Try from the newest on back."""
        damaged: list[Damaged] = []
        segments = Segments(self._segment_folder)
        there = self._numbers()
        for number in sorted(there if among is None else set(there) & set(among), reverse=True):
            path = self._path(number)
            try:
                found = use(manifests.read(path), segments)
            except SnapshotCorrupt as error:
                damaged.append(Damaged(path, str(error)))
                self.damaged = tuple(damaged)
            else:
                self.damaged = tuple(damaged)
                return found
        if damaged:
            reasons = "\n".join(f"  {d.reason}" for d in damaged)
            raise SnapshotCorrupt(
                f"{self._folder}: none of {len(damaged)} snapshots is valid:\n{reasons}\n"
                "restore the folder from a backup, or start anew in an empty one"
            )
        return None

    def _numbers(self) -> list[int]:
        return [int(p.stem) for p in self._folder.glob("*.json") if p.stem.isdecimal()]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010}.json"


def _info(path: Path, manifest: Manifest, segments: Segments | None = None) -> SnapshotInfo:
    return SnapshotInfo(
        number=manifest.number,
        path=path,
        sha256=manifest.sha256,
        created_us=manifest.created_us,
        positions=manifest.positions,
        edges=int(manifest.state["next"]),
        files_written=segments.files_written if segments else 0,
        bytes_written=segments.bytes_written if segments else 0,
    )
