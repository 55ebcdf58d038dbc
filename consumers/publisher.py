"""Vectors out: whole versions by a flip of aliases, changes between them by fenced writes.

Writes are ordered by a sequence of two parts, ``generation * 2**32 + n``: each publisher that opens
takes the next generation, and counts its writes in it. So whatever was written before a restart is
older than what is written after it, without a counter to persist at every write; and a publisher
that was thought dead and writes on can never replace what its successor has written.

A version goes live in numbered steps, and a crash between any two leaves the one before live, as
soon as a publisher is opened again:

1. record in the manifest that two collections are begun
2. make and fill them
3. check them: counts, then searches against brute force
4. bury in them what was removed meanwhile, say what has become of campaigns, write what was
   touched
5. flip both aliases in one request, and read them back
6. record in the manifest that the version is published: from here on it is the live one
7. drop what is neither live nor the one before
"""

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from consumers.errors import PublishError, Superseded
from consumers.filling import Filling, Thresholds
from consumers.frontier import Frontier
from consumers.index import ANY, Candidate, Conditions, Names, PointBatch, Space, VectorIndex
from consumers.manifest import (
    Begun,
    Collections,
    Dropped,
    Gates,
    Manifest,
    Opened,
    Origin,
    Published,
    RolledBack,
    Step,
)
from consumers.publications import Publications
from consumers.recovery import lost, restore_aliases, wanted_aliases
from stream.clock import Clock

GENERATION_BITS = 32
_NO_ORIGIN = Origin()
_THRESHOLDS = Thresholds()


class Going(IntEnum):
    """The steps of a version on its way to readers; a step is reported when it is done."""

    BEGUN = 1
    FILLED = 2
    CHECKED = 3
    CAUGHT_UP = 4
    FLIPPED = 5
    RECORDED = 6
    DROPPED = 7


def _unwatched(_: Going) -> None:
    return


class Publisher:
    """The one writer of an index; opening one ends the right of those before it to write.

    Parameters
    ----------
    index : VectorIndex
        Closed with the publisher.
    manifest : Path
        Of the file; see `consumers.manifest`.
    names : Names
        The aliases that readers use; collections are named after them.
    clock : Clock
    thresholds : Thresholds
        What a version must show to go live.
    on_step : callable
        Told each step of going live when it is done; for tests of crashes.

    Raises
    ------
    PublishError
        If the aliases point at collections that this manifest knows nothing of.
    ManifestCorrupt
        If the manifest has been altered.
    """

    def __init__(
        self,
        index: VectorIndex,
        manifest: Path,
        names: Names,
        clock: Clock,
        *,
        thresholds: Thresholds = _THRESHOLDS,
        on_step: Callable[[Going], None] = _unwatched,
    ) -> None:
        self.index = index
        self.names = names
        self.manifest = Manifest(manifest, clock)
        self._thresholds = thresholds
        self.on_step = on_step
        self.published = Publications()  # what the manifest adds up to, as of the last look
        self._filling: Filling | None = None
        self._writes = 0
        self.frontier = Frontier(manifest.with_name("frontier"))
        with self.manifest.exclusive():
            self._catch_up()
            self._mend()
            present = self.published.owned.intersection(index.collections())
            highest = max((index.last_sequence(name) for name in present), default=0)
            self.generation = max(self.published.generation, highest >> GENERATION_BITS) + 1
            self.manifest.append(Opened(generation=self.generation))
            self._catch_up()

    @property
    def live(self) -> int | None:
        """The version that readers see; None when none was published, or the index lost it."""
        return None if self.published.live is None else self.published.live.version

    # -- whole versions

    def begin(self, version: int, dim: int, origin: Origin = _NO_ORIGIN) -> Filling:
        """Make fresh collections for a version; a filling that was not committed is given up.

        Parameters
        ----------
        version : int
            At least the live one. The live one itself may be filled anew.
        dim : int
            Dimensions of users and items.
        origin : Origin
            What the vectors are made from; recorded in the manifest.

        Raises
        ------
        PublishError
            If the version is older than the live one: that is what `rollback` is for.
        Superseded
            If a newer publisher has taken over.
        """
        with self.writing():
            live = self.live
            if version < 1 or (live is not None and version < live):
                raise PublishError(
                    f"version {version} is older than {live}, which is live: use rollback"
                )
            self.give_up()
            names = self.names.at(version, self.published.fills.get(version, 0))
            pair = Collections(version=version, items=names.items, users=names.users)
            present = {pair.items, pair.users}.intersection(self.index.collections())
            if present:
                raise PublishError(
                    f"{sorted(present)} are there, but not made by {self.manifest.path}: "
                    "drop them, or publish under another --collection"
                )
            self.record(Begun(collections=pair))
            self.on_step(Going.BEGUN)  # 1
            self.index.create(pair.items, Space.ITEMS, dim)
            self.index.create(pair.users, Space.USERS, dim)
        self._filling = Filling(
            self.index,
            pair,
            sequence=self.next_sequence(),
            origin=origin,
            thresholds=self._thresholds,
            check_current=self._check_current,
            publish=self._go_live,
        )
        return self._filling

    def rollback(self, version: int | None = None) -> int:
        """Let readers see the version before again; which one that is.

        Parameters
        ----------
        version : int, optional
            The one that is expected to be kept; by default whichever is.

        Raises
        ------
        PublishError
            If it is not kept.
        """
        with self.writing():
            kept = self.published.previous
            if kept is None or version not in (None, kept.version):
                has = "none" if kept is None else f"version {kept.version}"
                raise PublishError(f"no version {version or ''} to return to: {has} is kept")
            aliases = self._flip(kept)
            sequence = self.next_sequence()
            self.record(RolledBack(collections=kept, aliases=aliases, sequence=sequence))
        return kept.version

    # -- changes to the live version

    def push(self, users: PointBatch, items: PointBatch, version: int | None = None) -> int:
        """Write vectors that have changed since; the sequence they were written with.

        Parameters
        ----------
        users, items : PointBatch
            Either may be empty.
        version : int, optional
            Of the model that made them; checked against the live one.

        Raises
        ------
        PublishError
            If nothing is live, or another version than ``version`` is.
        Superseded
            If a newer publisher has taken over.
        """
        self._check_current()
        live = self.published.live
        if live is None:
            raise PublishError(f"{self.manifest.path}: nothing is live: begin and commit a version")
        if version not in (None, live.version):
            raise PublishError(f"vectors of version {version}, but {live.version} is live")
        sequence = self.next_sequence()
        for name, space, batch in (
            (live.items, Space.ITEMS, items),
            (live.users, Space.USERS, users),
        ):
            if len(batch):
                self.index.upsert(name, space, batch, epoch=live.version, sequence=sequence)
        return sequence

    def remove(self, *, users: Collection[str] = (), items: Collection[str] = ()) -> None:
        """Leave tombstones of users and items, in every version that is or may become live.

        Raises
        ------
        Superseded
            If a newer publisher has taken over.
        """
        self._check_current()
        for space, ids in {Space.USERS: users, Space.ITEMS: items}.items():
            if not ids:
                continue
            if self._filling is not None and self._filling.open:
                self._filling.removed[space].update(ids)
            sequence = self.next_sequence()
            for pair in self.published.kept:
                self._bury(pair, space, ids, sequence)

    def tell(self, campaigns: Mapping[str, Mapping[str, object]]) -> None:
        """Set fields of the items of campaigns, in every version that is or may become live.

        Raises
        ------
        Superseded
            If a newer publisher has taken over.
        """
        if not campaigns:
            return
        self._check_current()
        if self._filling is not None and self._filling.open:
            self._filling.campaigns.update(campaigns)
        sequence = self.next_sequence()
        for pair in self.published.kept:
            self.index.set_payload(pair.items, campaigns, sequence=sequence)

    def sweep(self, before: int | None = None) -> None:
        """Delete tombstones of sequences below ``before``, by default those of past generations.

        A write that was fenced off by a tombstone is not any more when it is gone: only sweep what
        no publisher may still be writing.
        """
        self._check_current()
        limit = self.generation << GENERATION_BITS if before is None else before
        for pair in self.published.kept:
            for name in (pair.items, pair.users):
                self.index.sweep(name, limit)

    def flush(self) -> None:
        """Make all writes durable: call it before recording elsewhere that they were made."""
        self.index.flush()

    def candidates(self, user_id: str, k: int, conditions: Conditions = ANY) -> list[Candidate]:
        """Ask as an ad system would; see `VectorIndex.candidates`."""
        return self.index.candidates(user_id, k, conditions, names=self.names)

    def close(self) -> None:
        """Close index and manifest; idempotent."""
        self.index.close()
        self.manifest.close()
        self.frontier.close()

    # -- going live

    def _go_live(self, filling: Filling) -> Gates:
        self.on_step(Going.FILLED)  # 2
        try:
            gates = filling.check()
        except PublishError:
            self.give_up()
            raise
        self.on_step(Going.CHECKED)  # 3
        pair = filling.collections
        with self.writing():
            sequence = self.next_sequence()
            for space, ids in filling.removed.items():
                self._bury(pair, space, sorted(ids), sequence)
            self.index.set_payload(pair.items, filling.campaigns, sequence=sequence)
            filling.catch_up(self.next_sequence())
            self.on_step(Going.CAUGHT_UP)  # 4
            aliases = self._flip(pair)
            self.on_step(Going.FLIPPED)  # 5
            self.record(
                Published(
                    collections=pair,
                    origin=filling.origin,
                    aliases=aliases,
                    sequence=sequence,
                    gates=gates,
                )
            )
            self.on_step(Going.RECORDED)  # 6
            filling.close()
            self._filling = None
            self._drop(self.published.leftover)
            self.on_step(Going.DROPPED)  # 7
        return gates

    def _flip(self, pair: Collections) -> dict[str, str]:
        before = wanted_aliases(self.names, self.published.live)
        wanted = wanted_aliases(self.names, pair)
        try:
            self.index.point(wanted)
        except PublishError:
            self.index.point(before)
            raise
        return {a: c for a, c in self.index.aliases().items() if a in wanted}

    def _bury(self, pair: Collections, space: Space, ids: Collection[str], sequence: int) -> None:
        name = pair.items if space is Space.ITEMS else pair.users
        self.index.bury(name, space, list(ids), epoch=pair.version, sequence=sequence)

    def give_up(self) -> None:
        """Drop a filling that will not go live."""
        if self._filling is not None:
            self._filling.close()
            pair = self._filling.collections
            self._filling = None
            self._drop({pair.items, pair.users})

    # -- what the manifest says

    def _mend(self) -> None:
        """Undo what a crash has left half done."""
        known = set(self.published.owned)
        if missing := lost(self.index, self.published):
            self.record(Dropped(names=tuple(missing)))
        restore_aliases(self.index, self.names, self.published, known, str(self.manifest.path))
        self._drop(self.published.leftover | set(missing))

    def _drop(self, names: set[str]) -> None:
        if names:
            for name in sorted(names):
                self.index.drop(name)
            # Recorded last: dropping twice does no harm, forgetting would.
            self.record(Dropped(names=tuple(sorted(names))))

    def record(self, step: Step) -> None:
        """Write a line of the manifest."""
        self.manifest.append(step)
        self._catch_up()

    def _catch_up(self) -> None:
        self.published.advance(self.manifest.lines[self.published.lines :])

    @contextmanager
    def writing(self) -> Generator[None]:
        """Keep other publishers out while aliases or collections change."""
        with self.manifest.exclusive():
            self._check_current()
            yield

    def _check_current(self) -> None:
        self.manifest.refresh()
        self._catch_up()
        if self.published.generation > self.generation:
            raise Superseded(
                f"{self.manifest.path}: publisher {self.published.generation} has taken over from "
                f"{self.generation}: this one must stop; restart it to take over again"
            )

    def next_sequence(self) -> int:
        """Number of the next write."""
        self._writes += 1
        return (self.generation << GENERATION_BITS) + self._writes
