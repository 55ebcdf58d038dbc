"""Follows the state that another process writes, so that a server knows what that one knows.

It restores the newest snapshot, reads the events topic on from the snapshot's positions (in no
group, committing nothing), and takes up the model version that the manifest says is live. It writes
nothing. Without a topic it serves snapshots as they appear.

User vectors and the collection that is asked are always of one version: both change in one moment,
under the lock that every reader holds, and only when the new version is loaded. Until then the one
before is served; the publisher keeps its collections.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from consumers.errors import ConsumerError
from consumers.manifest import Line, Manifest
from consumers.manifest_steps import Collections
from consumers.publications import Publications
from consumers.versions import Versions
from consumers.world import World
from model.errors import ModelError
from stream.clock import Clock
from stream.errors import RetentionPassed, StreamError, TopicReplaced
from stream.source import Source
from stream.state import State

BATCH = 250  # messages applied while readers wait: some milliseconds
POLL_TIMEOUT_S = 0.1
LOOK_EVERY_S = 0.5  # for versions, snapshots and lag
REST_S = 1.0  # after something that failed


@dataclass(slots=True)
class Follower:
    """A world that is kept up to date by a thread, and a lock to read it under.

    Parameters
    ----------
    latest : callable
        Number of the newest snapshot; 0 for none.
    restore : callable
        Makes a world of the newest snapshot, under that snapshot's model version; None without one.
    versions : Versions
    manifest : Path
        Of the publisher; need not be there yet.
    clock : Clock
    read_on : callable, optional
        Opens the topic at these positions; without it nothing is read.
    forget : callable
        Told the names of users that were erased.
    settle : callable
        Called when a state has been restored, by the thread that follows.

    Attributes
    ----------
    trouble : str or None
        Why it does not get on, where it does not.
    lag : int or None
        Messages not yet applied; None when that is not known.
    lag_us : int
        When ``lag`` was last known, microseconds since the epoch.
    """

    latest: Callable[[], int]
    restore: Callable[[], World | None]
    versions: Versions
    manifest: Path
    clock: Clock
    read_on: Callable[[State], Source] | None = None
    forget: Callable[[Sequence[str]], None] = lambda _: None
    settle: Callable[[], None] = lambda: None
    trouble: str | None = "the state is being restored"
    lag: int | None = None
    lag_us: int = 0
    applied: int = 0
    _world: World | None = None
    _source: Source | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _record: Manifest | None = None
    _published: Publications = field(default_factory=Publications)
    _looked_us: int = 0
    _rebuilt: bool = False

    @contextmanager
    def reading(self) -> Generator[World | None]:
        """The world, unchanging inside the block; None before a snapshot was restored."""
        with self._lock:
            yield self._world

    @property
    def published(self) -> Collections | None:
        """What the manifest says is live, as of the last look."""
        return self._published.live

    @property
    def previous(self) -> Collections | None:
        """What readers could be taken back to, as of the last look."""
        return self._published.previous

    @property
    def lines(self) -> list[Line]:
        """Lines of the manifest, as of the last look; not to be changed."""
        return [] if self._record is None else self._record.lines

    def run(self, stop: threading.Event) -> None:
        """Follow until told to stop."""
        try:
            while not stop.is_set():
                self._try(stop)
        finally:
            self._let_go()
            if self._record is not None:
                self._record.close()

    def _try(self, stop: threading.Event) -> None:
        try:
            if self.step() == 0 and self.read_on is None:
                stop.wait(LOOK_EVERY_S)
            if self._world is not None:
                self.trouble = None
        except (RetentionPassed, TopicReplaced) as error:
            self._world_from_newer(str(error))
            stop.wait(REST_S)
        except (StreamError, ConsumerError, ModelError, OSError) as error:
            self.trouble = f"{type(error).__name__}: {error}"
            self._let_go()
            stop.wait(REST_S)

    def step(self) -> int:
        """Do once all that there is to do; how many messages were applied."""
        world = self._world
        stale = self.read_on is None or self._rebuilt
        if world is None or (stale and self.latest() > world.snapshot):
            self._rebuilt = False
            world = self._restore()
            if world is None:
                return 0
        if self._due():
            self._look(world)
        return 0 if self.read_on is None else self._read(world)

    # -- the state

    def _restore(self) -> World | None:
        """Load the newest snapshot; a world there is stays as it is until that is done."""
        world = self.restore()
        if world is None:
            self.trouble = "there is no snapshot yet: run `goat run` or `goat ingest` on this state"
            return None
        self._look_at_manifest()
        self._adopt(world)
        self._let_go()
        with self._lock:
            self._world = world
        self.settle()
        return world

    def _world_from_newer(self, trouble: str) -> None:
        """Begin again from a snapshot that is ahead of what was deleted, if there is one."""
        self.trouble = trouble
        self._let_go()
        if self._world is not None and self.latest() > self._world.snapshot:
            self._restore()

    # -- the topic

    def _read(self, world: World) -> int:
        if self._source is None and self.read_on is not None:
            self._source = self.read_on(world.state)
        taken = 0
        for batch in self._source.poll(BATCH, POLL_TIMEOUT_S) if self._source else ():
            with self._lock:
                applied = world.take(batch)
            world.campaigns.changed()  # only this thread changes the graph
            if applied.erased_users:
                self.forget(applied.erased_users)
            taken += len(batch)
        self.applied += taken
        return taken

    def _let_go(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    # -- versions

    def _due(self) -> bool:
        now_us = self.clock.now_us()
        if now_us - self._looked_us < LOOK_EVERY_S * 1e6:
            return False
        self._looked_us = now_us
        return True

    def _look(self, world: World) -> None:
        self._look_at_manifest()
        self._adopt(world)
        world.campaigns.changed()
        with self._lock:
            world.freshen()
        if self._source is not None:
            self.lag = sum(self._source.lag().values())
            self.lag_us = self.clock.now_us()

    def _look_at_manifest(self) -> None:
        if self._record is None:
            if not self.manifest.exists():
                return
            self._record = Manifest(self.manifest, self.clock)
        self._record.refresh()
        self._published.advance(self._record.lines[self._published.lines :])

    def _adopt(self, world: World) -> None:
        pair = self.published
        if pair is None or pair == world.pair:
            return
        live = world.live
        if live.version != pair.version:
            version = self.versions.open(pair.version)
            if version.numbering != world.state.numbering:
                # The state was rebuilt: its new snapshot comes first, and is restored whole.
                self._rebuilt = True
                return
            # Not under the lock: it changes nothing, and only this thread changes the graph.
            live = world.successor(version)
        with self._lock:
            world.adopt(live, pair)
