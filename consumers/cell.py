"""One partition of a stream: its part of the graph, its users' vectors, its own snapshots.

A cell is all that goes from member to member when a partition does. It sees the events of its
partition alone, and writes the users of those events and nothing else; what it must know of items
it is told (`consumers.item_news`). A model version that is coming is filled by every cell for
itself, and kept up to date from then on beside the one that is live, so that nobody's vector goes
back when readers are led to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from consumers.errors import VersionMissing
from consumers.frontier import Frontier
from consumers.homes import Home
from consumers.item_news import News
from consumers.lanes import Lane
from consumers.live import LiveModel
from consumers.logs import log
from consumers.manifest_steps import Collections
from consumers.pipeline import Pipeline
from consumers.points import CHUNK, user_points
from consumers.publications import Publications
from consumers.renumbered import renumbered
from consumers.versions import Versions
from stream.batch import Partition, RecordBatch
from stream.clock import Clock
from stream.errors import StoreUnwritable
from stream.topic import Topic


@dataclass(slots=True)
class Coming:
    """A version that is being filled, or is and waits for the others.

    Attributes
    ----------
    pair : Collections
    begun : int
        Line of the manifest that says so.
    live : LiveModel
    filling : iterator or None
        Writes a chunk of users each time; None when all are there.
    """

    pair: Collections
    begun: int
    live: LiveModel
    filling: Iterator[None] | None


@dataclass(frozen=True, slots=True)
class Tenure:
    """What it takes to keep a partition.

    Attributes
    ----------
    lane : Lane
        The right to write its users.
    home : Home
        Where its state lies.
    frontier : Frontier
        How far readers have seen it; closed with the cell.
    """

    lane: Lane
    home: Home
    frontier: Frontier


class Cell:
    """A partition that this process keeps; made by `consumers.member`.

    Parameters
    ----------
    partition : Partition
    pipeline : Pipeline
        Without a publisher, over the partition's state.
    tenure : Tenure
    versions : Versions
    news : callable
        What is known of items now.
    clock : Clock
    """

    def __init__(
        self,
        partition: Partition,
        pipeline: Pipeline,
        tenure: Tenure,
        *,
        versions: Versions,
        news: Callable[[], News],
        clock: Clock,
    ) -> None:
        self.partition = partition
        self.pipeline = pipeline
        self.lane = tenure.lane
        self._home = tenure.home
        self._frontier = tenure.frontier
        self._versions = versions
        self._news = news
        self._heard: News | None = None
        self._clock = clock
        self._began_us = clock.now_us()
        self._coming: Coming | None = None
        if pipeline.state.extra.get("behind"):  # saved before what was touched could be written
            pipeline.live.touch_all()

    @property
    def position(self) -> int | None:
        """Next offset to read; None before the first."""
        return self.pipeline.state.positions.get(self.partition)

    @property
    def topic(self) -> Topic | None:
        """What the position is of."""
        return self.pipeline.state.topics.get(self.partition.topic)

    @topic.setter
    def topic(self, topic: Topic) -> None:
        self.pipeline.state.topics[self.partition.topic] = topic

    @property
    def behind(self) -> bool:
        """Whether what is known here is still older than what readers see."""
        return bool(self._frontier.ahead)

    def take(self, batch: RecordBatch) -> None:
        """Apply messages of the partition."""
        self.pipeline.take(batch)

    def step(self, lag: int | None) -> int:
        """Go by what is published and write what was touched; how many users.

        Parameters
        ----------
        lag : int or None
            Messages left to read; None where that is not known.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        PublishError
            If vectors cannot be written.
        """
        self._hear()
        published = self.lane.check()
        self._follow(published)
        waited_s = (self._clock.now_us() - self._began_us) / 1e6
        lags = {} if lag is None else {self.partition: lag}
        if not self._frontier.caught_up(self.pipeline.state.positions, lags, waited_s):
            return 0
        self._expect(published)
        written = 0
        # What is coming first: readers may be led to it between the two.
        if self._coming is not None:
            if self._coming.filling is not None:
                self._go_on_filling(self._coming)
            elif not self._refresh_coming(self._coming):
                self._await(None)
        live = self.pipeline.live
        if published.live is not None and published.live.version == live.version:
            written = live.pending
            self._refresh(live, published.kept)
            nobody = user_points(live, np.zeros(0, np.int32))
            self.lane.write(published.live, self.pipeline.shaper.canaries.among(nobody, live))
        return written

    def commit(self) -> None:
        """Make all that was taken durable, and delete what earlier writers have left.

        Raises
        ------
        Superseded
            If the partition has been taken over.
        StoreUnwritable
            If the disk is full or may not be written to.
        """
        self.lane.check()
        self.lane.flush()
        live = self.pipeline.live
        behind = self.behind or live.pending > 0
        try:
            self.pipeline.commit({"behind": behind}, _unadvised)
        except StoreUnwritable:
            self.lane.check()  # whoever has taken over meanwhile deletes the folder that is ours
            raise
        self._home.forget(self.lane.generation)

    def close(self) -> None:
        """Give files back; what was not committed is read again."""
        self._frontier.close()
        self.pipeline.snapshots.close()
        self.pipeline.texts.close()

    # -- what is published

    def _hear(self) -> None:
        """Go by what is new of items."""
        if (news := self._news()) is not self._heard:
            self._heard = news
            news.told(self.pipeline.live)
            if self._coming is not None:
                news.told(self._coming.live)

    def _follow(self, published: Publications) -> None:
        """Use the version that readers see."""
        live = published.live
        if live is None or live.version == self.pipeline.live.version or not self._told_of(live):
            return
        coming = self._coming
        if coming is not None and coming.pair == live and coming.filling is None:
            self.pipeline.live = coming.live
        else:  # another member filled it, or readers were taken back to it
            left, self.pipeline.live = self.pipeline.live, self._model(live.version)
            self.pipeline.live.touch_all(left)
        self._await(None)
        self.pipeline.evaluator.follow(self.pipeline.live)
        self.pipeline.shaper.canaries.again()
        log.info("serving a version", version=live.version, partition=str(self.partition))

    def _expect(self, published: Publications) -> None:
        """Begin to fill a version that is coming; give up one that is not any more."""
        pair = published.coming
        if self._coming is not None and self._coming.begun != published.begun:
            self._await(None)
        if pair is None or self._coming is not None or not self._told_of(pair):
            return
        try:
            live = self._model(pair.version)
        except VersionMissing:
            return  # of another state's numbering, or pruned: it will be given up
        coming = Coming(pair, published.begun, live, None)
        coming.filling = self._fill(coming)
        self._await(coming)

    def _await(self, coming: Coming | None) -> None:
        self._coming = coming
        self.pipeline.trial.coming = None if coming is None else coming.live

    def _told_of(self, pair: Collections) -> bool:
        """Whether it is known where the new items of a version are."""
        return self._heard is not None and pair.version in self._heard.placed

    def _model(self, number: int) -> LiveModel:
        items = self.pipeline.state.graph.items
        live = self.pipeline.live.successor(renumbered(self._versions.open(number), items))
        if self._heard is not None:
            self._heard.told(live)
        return live

    def _fill(self, coming: Coming) -> Iterator[None]:
        graph, start = coming.live.graph, 0
        while start < len(graph.users):
            users = np.arange(start, min(start + CHUNK, len(graph.users)), dtype=np.int32)
            coming.live.refreshed(users=users)
            if not self.lane.write(coming.pair, user_points(coming.live, users)):
                return
            start += len(users)
            yield
        if self._refresh(coming.live, (coming.pair,)):
            written = sum(map(bool, graph.users.names))
            self.lane.filled(coming.pair, written)

    def _go_on_filling(self, coming: Coming) -> None:
        for _ in coming.filling or ():
            return
        coming.filling = None

    def _refresh_coming(self, coming: Coming) -> bool:
        return self._refresh(coming.live, (coming.pair,))

    def _refresh(self, live: LiveModel, pairs: tuple[Collections, ...]) -> bool:
        """Write what was touched under a version into the first of these; bury the gone in all."""
        touched, gone = live.take_touched()
        for pair in pairs[1:]:
            self.lane.bury(pair, gone)
        users = user_points(live, touched.users)
        return self.lane.bury(pairs[0], gone) and self.lane.write(pairs[0], users)


def _unadvised(_: object) -> None:
    """Lag tools are told by the member, who has the client."""
