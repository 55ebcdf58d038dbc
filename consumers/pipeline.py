"""The story: how a message becomes a candidate.

A source hands over raw messages of one partition. The codec makes events of them, the orderer lets
each in once and none too late, and the graph takes them up. The evaluator asks what we would have
shown *before* anything is learned; then the live model folds the touched users and items anew, and
the publisher puts them, and what has become of campaigns, where ad systems search. A snapshot holds
all of it with the offsets it is the effect of. From time to time a fine-tune, in a process of its
own, turns a snapshot into a new model version: everything is published under it if it does no harm.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from consumers.campaigns import Campaigns
from consumers.evaluator import Evaluator
from consumers.live import LiveModel
from consumers.publisher import Publisher
from consumers.shaping import Shaper
from consumers.tally import Tally, letters
from consumers.texts import Texts
from consumers.trial import Trial, Way
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
    trial: Trial = field(default_factory=Trial)

    def take(self, batch: RecordBatch) -> None:
        """Apply the messages of one partition: from bytes to what they touch."""
        decoded = self.state.recognised(self.codec.decode(batch))
        admission = self.state.orderer.admit(decoded.events)
        self.dead_letters.put(letters(batch, decoded, admission.late))
        known = len(self.state.graph.items)
        applied = self.state.graph.apply(decoded.events, admission.keep, admission.now_us)
        self.texts.embed(applied.announced_items)
        self.evaluator.score(applied, catalogue=known, history=batch.history)
        for live in (self.live, *self.trial.beside):
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
        own: dict[str, JSON] = {"tally": self.tally.to_json(), "version": self.live.version}
        self.state.extra = {**progress, **own, "gone": self.live.departed.to_json()}
        parts = (self.live, self.evaluator, self.trial, self.campaigns, self.shaper)
        self.state.arrays = {k: v for part in parts for k, v in part.to_arrays().items()}
        return self.snapshots.commit(self.state, advise=advise)

    def adopt(self, version: Version) -> Generator[None]:
        """Serve a new version, unless it does harm; a step of it each time it is asked."""
        if self.publisher is None:
            return self.serve(self.live.successor(version))
        way = Way(self.publisher, self.campaigns, self.shaper, self.serve)
        yield from self.trial.bring(version, self.live, way)

    def serve(self, live: LiveModel) -> None:
        """Go on under another version."""
        self.live = live
        self.evaluator.follow(live)
