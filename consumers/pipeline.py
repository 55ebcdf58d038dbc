"""The story: how a message becomes a candidate.

A source hands over raw messages of one partition. The codec makes events of them, the orderer lets
each in once and none too late, and the graph takes them up. The evaluator asks what we would have
shown *before* anything is learned; then the live model folds the touched users and items anew, and
the publisher puts them, and what has become of campaigns, where ad systems search. A snapshot holds
all of it with the offsets it is the effect of. From time to time a fine-tune, in a process of its
own, turns a snapshot into a new model version, and everything is published under it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from consumers.campaigns import Campaigns
from consumers.evaluator import Evaluator
from consumers.live import LiveModel
from consumers.points import all_points
from consumers.publisher import Publisher
from consumers.shaping import Shaper
from consumers.tally import Tally, letters
from consumers.texts import Texts
from consumers.versions import Version
from stream.batch import Partition, RecordBatch
from stream.codec import Codec
from stream.sink import DeadLetterSink
from stream.snapshot import SnapshotInfo, SnapshotStore
from stream.state import JSON, State


@dataclass(slots=True)
class Pipeline:
    """Everything between a source and Qdrant, in the order in which a message meets it."""

    codec: Codec
    dead_letters: DeadLetterSink
    state: State
    texts: Texts
    evaluator: Evaluator
    live: LiveModel
    campaigns: Campaigns
    shaper: Shaper
    publisher: Publisher | None
    snapshots: SnapshotStore
    tally: Tally = field(default_factory=Tally)
    coming: LiveModel | None = None

    def take(self, batch: RecordBatch) -> None:
        """Apply the messages of one partition: from bytes to what they touch."""
        decoded = self.state.recognised(self.codec.decode(batch))
        admission = self.state.orderer.admit(decoded.events)
        self.dead_letters.put(letters(batch, decoded, admission.late))
        known = len(self.state.graph.items)
        applied = self.state.graph.apply(decoded.events, admission.keep, admission.now_us)
        self.texts.embed(applied.announced_items)
        self.evaluator.score(applied, catalogue=known, history=batch.history)
        for live in filter(None, (self.live, self.coming)):
            live.learn(applied)
        self.shaper.canaries.hear(decoded.canaries)
        self.tally.account(batch, decoded, admission, applied)
        self.state.moved(batch)

    def publish(self, *, everything: bool = False) -> int:
        """Refresh what was touched and is worth a write, or everything; how many points."""
        self.campaigns.tell(self.publisher)
        if self.publisher is None or self.publisher.live != self.live.version:
            return 0  # what readers see is of another version, until ours is adopted
        return self.shaper.write(self.live, self.campaigns, self.publisher, everything=everything)

    def commit(
        self, progress: Mapping[str, JSON], advise: Callable[[Mapping[Partition, int]], None]
    ) -> SnapshotInfo:
        """Make all that was taken so far durable, with the offsets it came from."""
        self.dead_letters.flush()
        self.state.extra = {**progress, "tally": self.tally.to_json(), "version": self.live.version}
        arrays = self.live.to_arrays() | self.evaluator.to_arrays()
        self.state.arrays = arrays | self.campaigns.to_arrays() | self.shaper.to_arrays()
        return self.snapshots.commit(self.state, advise=advise)

    def adopt(self, version: Version) -> Iterator[None]:
        """Serve a new version: fill fresh collections, a chunk each time it is asked, then flip."""
        coming = self.coming = self.live.successor(version)
        if self.publisher is not None:
            filling = self.publisher.begin(version.number, coming.dim, version.origin)
            yield
            for space, points in all_points(coming, self.campaigns, filling.spaces):
                filling.add(space, points)
                yield
            yield from filling.go_live(lambda own: self.shaper.filled(coming, self.campaigns, own))
        self.live, self.coming = coming, None
        self.evaluator.follow(self.live)
