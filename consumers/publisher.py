"""Vectors out: whole versions by a flip of aliases, changes between them by fenced writes.

Who may write, and why an older write never replaces a newer one: `consumers.mandate`. How a version
goes live, step by step: `consumers.steps`.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from consumers.errors import PublishError
from consumers.filling import Filling, Thresholds
from consumers.frontier import Frontier
from consumers.gone import NOBODY, Gone
from consumers.index import ANY, Candidate, Conditions, Names, PointBatch, Space, VectorIndex
from consumers.joint import Joint
from consumers.mandate import GENERATION_BITS, Mandate, Record
from consumers.manifest_steps import (
    WHOLE,
    Begun,
    Collections,
    Dropped,
    Gates,
    Origin,
    Published,
    RolledBack,
)
from consumers.members import Members
from consumers.publications import Publications
from consumers.recovery import flip, lost, restore_aliases
from consumers.steps import Back, Going, unwatched
from stream.clock import Clock

_NO_ORIGIN = Origin()
_THRESHOLDS = Thresholds()


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
        Told each step of going live or back when it is done; for tests of crashes.

    Attributes
    ----------
    members : Members or None
        Where others write users: this one then writes none, and waits for theirs.

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
        on_step: Callable[[Going | Back], None] = unwatched,
    ) -> None:
        self.index = index
        self.names = names
        self.record = Record(manifest, clock)
        self._thresholds = thresholds
        self.on_step = on_step
        self.members: Members | None = None
        self._filling: Filling | None = None
        self._joint: Joint | None = None
        self.frontier = Frontier(manifest.with_name("frontier"))
        with self.record.exclusive():
            self._mend()
            self.mandate = Mandate(self.record, index, WHOLE)

    @property
    def published(self) -> Publications:
        """What the manifest adds up to, as of the last look."""
        return self.record.published

    @property
    def live(self) -> int | None:
        """The version that readers see; None when none was published, or the index lost it."""
        return None if self.published.live is None else self.published.live.version

    @property
    def spaces(self) -> Collection[Space]:
        """What this one writes; users are members' where there are such."""
        return tuple(Space) if self.members is None else (Space.ITEMS,)

    @property
    def waits_for(self) -> str | None:
        """What members have still to write of a version that is filled otherwise."""
        return None if self._joint is None else self._joint.waiting

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
        with self.mandate.writing():
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
                    f"{sorted(present)} are there, but not made by {self.record.path}: "
                    "drop them, or publish under another --collection"
                )
            self.record.append(Begun(collections=pair))
            self.on_step(Going.BEGUN)  # 1
            self.index.create(pair.items, Space.ITEMS, dim)
            self.index.create(pair.users, Space.USERS, dim)
        self._filling = Filling(
            self.index,
            pair,
            sequence=self.mandate.next_sequence(),
            origin=origin,
            thresholds=self._thresholds,
            check_current=self.mandate.check,
            publish=self._go_live,
            joint=self._await_members(pair),
        )
        return self._filling

    def begin_again(self, version: int) -> Joint | None:
        """Have members bring the pair up to date that a rollback would return to; None without any.

        Raises
        ------
        PublishError
            If it is not kept.
        Superseded
            If a newer publisher has taken over.
        """
        with self.mandate.writing():
            pair = self.kept(version)
            if self.members is not None:
                self.record.append(Begun(collections=pair))
        return self._await_members(pair)

    def _await_members(self, pair: Collections) -> Joint | None:
        own = self.members
        self._joint = None if own is None else Joint(own, self.published, self.index, pair)
        return self._joint

    def rollback(self, version: int | None = None) -> int:
        """Let readers see the version before again, as it was left; which one that is.

        See `consumers.returning` for how it is brought up to date first.

        Parameters
        ----------
        version : int, optional
            The one that is expected to be kept; by default whichever is.

        Raises
        ------
        PublishError
            If it is not kept.
        """
        with self.mandate.writing():
            kept = self.kept(version)
            aliases = flip(self.index, self.names, self.published.live, kept)
            self.on_step(Back.FLIPPED)
            sequence = self.mandate.next_sequence()
            self.record.append(RolledBack(collections=kept, aliases=aliases, sequence=sequence))
            self.on_step(Back.RECORDED)
        return kept.version

    def kept(self, version: int | None = None) -> Collections:
        """The pair that a rollback would return to; an error as there, if none is kept."""
        kept = self.published.previous
        if kept is None or version not in (None, kept.version):
            has = "none" if kept is None else f"version {kept.version}"
            raise PublishError(f"no version {version or ''} to return to: {has} is kept")
        return kept

    def refresh(
        self, version: int, points: Mapping[Space, PointBatch], gone: Gone = NOBODY
    ) -> None:
        """Bury what is gone, then write what has changed, in the pair that is kept; as `push`."""
        self.mandate.check()
        pair = self.kept(version)
        self._bury(pair, gone, self.mandate.next_sequence())
        self._write(pair, points)

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
        self.mandate.check()
        live = self.published.live
        if live is None:
            raise PublishError(f"{self.record.path}: nothing is live: begin and commit a version")
        if version not in (None, live.version):
            raise PublishError(f"vectors of version {version}, but {live.version} is live")
        return self._write(live, {Space.ITEMS: items, Space.USERS: users})

    def remove(self, gone: Gone) -> None:
        """Leave tombstones of users and items, in every version that is or may become live.

        Raises
        ------
        Superseded
            If a newer publisher has taken over.
        """
        if gone == NOBODY:
            return
        self.mandate.check()
        if self._filling is not None and self._filling.open:
            self._filling.removed.note(gone)
        sequence = self.mandate.next_sequence()
        for pair in self.published.kept:
            self._bury(pair, gone, sequence)

    def tell(self, campaigns: Mapping[str, Mapping[str, object]]) -> None:
        """Set fields of the items of campaigns, in every version that is or may become live.

        Raises
        ------
        Superseded
            If a newer publisher has taken over.
        """
        if not campaigns:
            return
        self.mandate.check()
        if self._filling is not None and self._filling.open:
            self._filling.campaigns.update(campaigns)
        sequence = self.mandate.next_sequence()
        for pair in self.published.kept:
            self.index.set_payload(pair.items, campaigns, sequence=sequence)

    def sweep(self, before: int | None = None) -> None:
        """Delete tombstones of sequences below ``before``, by default those before every writer's.

        A write that was fenced off by a tombstone is not any more when it is gone: only sweep what
        no publisher may still be writing; see `consumers.sweeping`.
        """
        self.mandate.check()
        limit = self.mandate.generation << GENERATION_BITS if before is None else before
        # Members write users, each in a generation of its own.
        holders = self.published.holders.items()
        theirs = (held << GENERATION_BITS for lane, held in holders if lane != WHOLE)
        limits = {Space.ITEMS: limit, Space.USERS: min((limit, *theirs))}
        for pair in self.published.kept:
            for space, below in limits.items():
                self.index.sweep(pair.of(space), below)

    def flush(self) -> None:
        """Make all writes durable: call it before recording elsewhere that they were made."""
        self.index.flush()

    def candidates(self, user_id: str, k: int, conditions: Conditions = ANY) -> list[Candidate]:
        """Ask as an ad system would; see `VectorIndex.candidates`."""
        return self.index.candidates(user_id, k, conditions, names=self.names)

    def close(self) -> None:
        """Close index and manifest; idempotent."""
        self.index.close()
        self.record.close()
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
        with self.mandate.writing():
            sequence = self.mandate.next_sequence()
            self._bury(pair, filling.removed.gone, sequence)
            self.index.set_payload(pair.items, filling.campaigns, sequence=sequence)
            filling.catch_up(self.mandate.next_sequence())
            self.on_step(Going.CAUGHT_UP)  # 4
            aliases = flip(self.index, self.names, self.published.live, pair)
            self.on_step(Going.FLIPPED)  # 5
            self.record.append(
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

    def _write(self, pair: Collections, points: Mapping[Space, PointBatch]) -> int:
        sequence = self.mandate.next_sequence()
        for space, batch in points.items():
            if len(batch):
                name = pair.of(space)
                self.index.upsert(name, space, batch, epoch=pair.version, sequence=sequence)
        return sequence

    def _bury(self, pair: Collections, gone: Gone, sequence: int) -> None:
        for space, ids, points in (
            (Space.USERS, gone.users, gone.points),
            (Space.ITEMS, gone.items, ()),
        ):
            if (ids or points) and space in self.spaces:
                self.index.bury(
                    pair.of(space),
                    space,
                    ids,
                    epoch=pair.version,
                    sequence=sequence,
                    points=points,
                )

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
            self.record.append(Dropped(names=tuple(missing)))
        restore_aliases(self.index, self.names, self.published, known, str(self.record.path))
        self._drop(self.published.leftover | set(missing))

    def _drop(self, names: set[str]) -> None:
        if names:
            for name in sorted(names):
                self.index.drop(name)
            # Recorded last: dropping twice does no harm, forgetting would.
            self.record.append(Dropped(names=tuple(sorted(names))))
