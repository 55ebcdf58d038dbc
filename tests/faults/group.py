"""A consumer group in memory, whose members come, go, are killed and sleep as a test has them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumers import joining, wiring
from consumers.cell import Cell
from consumers.edge_index import EdgeIndex
from consumers.homes import FOLDER
from consumers.index import PointBatch, Space
from consumers.ingestor import Ingestor
from consumers.item_news import NewsReader, NewsWriter
from consumers.lanes import Lanes
from consumers.lifecycle import Stop
from consumers.member import Member
from consumers.members import Members
from consumers.publisher import Publisher
from consumers.retraining import ROLLBACKS, Requests
from consumers.settings import Settings
from consumers.versions import Versions
from stream.batch import Partition, RecordBatch
from stream.kafka_source import Moves
from stream.sink import FileDeadLetters
from stream.topic import Topic as TopicKnown
from tests.faults import nursery
from tests.faults.topic import PARTITIONS, TOPIC, Topic, partition_of

EVERY_S = 15.0
BATCH = 6
MEMBERS_BATCH = 2  # so few that versions come, and readers return, while members are on their way


class Held(Topic):
    """The partitions that one member believes to hold."""

    def __init__(self, messages: Sequence[Sequence[bytes]], moves: Moves) -> None:
        super().__init__(messages, {})
        self.moves = moves
        self.held: set[Partition] = set()
        self.begun: set[Partition] = set()

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        lag = self.lag()
        left = [p for p in sorted(self.begun & self.held) if lag[p]]
        batches = []
        for partition in left:
            start = self._at[partition]
            stop = min(start + max_records, len(self._messages[partition]))
            self._at[partition] = stop
            values = self._messages[partition][start:stop]
            batches.append(RecordBatch(partition, np.arange(start, stop), values, stop))
        return batches

    def begin(self, partition: Partition, offset: int | None, known: TopicKnown | None) -> bool:
        self._at[partition] = offset or 0
        self.begun.add(partition)
        return partition in self.held

    def topic_of(self, partition: Partition) -> TopicKnown:
        return TopicKnown("", PARTITIONS)

    def assignment(self) -> set[Partition]:
        return self.held


class Seen:
    """An index that outlives its users, and notes what readers get to see of users."""

    def __init__(self, index: EdgeIndex) -> None:
        self._index = index
        self.notes: list[dict[str, Any]] = []
        self.positions: Mapping[Partition, int] = {}
        self.before_write: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def upsert(
        self, collection: str, space: Space, batch: PointBatch, *, epoch: int, sequence: int
    ) -> None:
        positions = dict(self.positions)
        if space is Space.USERS:
            self.before_write()
        self._index.upsert(collection, space, batch, epoch=epoch, sequence=sequence)
        if space is Space.USERS:
            stored = self._index.fetch(collection, space, batch.ids)
            held = [p is not None and p.payload["seq"] == sequence for p in stored]
            seen = {
                user: positions.get(partition_of(user), 0)
                for user, ours in zip(batch.ids, held, strict=True)
                if ours
            }
            self.notes.append({"collection": collection, "seen": seen})

    def bury(self, collection: str, space: Space, ids: Sequence[str], **more: Any) -> None:
        self._index.bury(collection, space, ids, **more)
        if space is Space.USERS:
            self.notes.append({"collection": collection, "gone": list(ids)})

    def point(self, targets: dict[str, str | None]) -> None:
        self._index.point(targets)
        self.notes.append({"flip": targets[nursery.NAMES.users]})

    def close(self) -> None:
        """It is the server's to close."""

    def shut(self) -> None:
        """The server ends."""
        self._index.close()


class Group:
    """All members, and who sees the whole stream.

    Parameters
    ----------
    state : Path
    messages : by partition
    rng : Generator
    """

    def __init__(
        self, state: Path, messages: Sequence[Sequence[bytes]], rng: np.random.Generator
    ) -> None:
        self.state, self.messages, self.rng = state, messages, rng
        self.clock = nursery.Clock()
        self.index = Seen(EdgeIndex(state / "index"))
        self.partitions = [Partition(TOPIC, n) for n in range(PARTITIONS)]
        self.owner: dict[Partition, Member | None] = dict.fromkeys(self.partitions)
        self.members: list[Member] = []
        self.asleep: list[Member] = []
        self.whole = self._whole()

    @property
    def settings(self) -> Settings:
        return Settings(
            state=self.state,
            lateness_s=nursery.LATENESS_S,
            harm_window=0,  # nothing but members holds a version up
            model=nursery.MODEL.model_dump_json(exclude_defaults=True),
        )

    def _whole(self) -> Ingestor:
        publisher = Publisher(
            self.index,  # type: ignore[arg-type]
            self.state / "manifest.jsonl",
            nursery.NAMES,
            self.clock,
        )
        self.letters = FileDeadLetters(self.state / "dead")
        pipeline = wiring.open_pipeline(
            self.settings, nursery.MODEL, publisher, self.letters, self.clock, live=True
        )
        publisher.members = Members(pipeline.state)
        news = NewsWriter(self.state / FOLDER, self.clock)
        whole = Ingestor(
            pipeline,
            Topic(self.messages, pipeline.state.positions),
            Versions(self.state / "models"),
            self.clock,
            Stop(),
            batch=BATCH,
            snapshot_every_s=EVERY_S,
            rollbacks=Requests(self.state / ROLLBACKS),
            tell_members=lambda: news.note((pipeline.live, *pipeline.trial.beside)),
        )
        whole._resume(pipeline.state.extra)
        return whole

    @property
    def before(self) -> int | None:
        """The version that readers could return to."""
        publisher = self.whole.pipeline.publisher
        assert publisher is not None
        kept = publisher.published.previous
        return None if kept is None else kept.version

    @property
    def returned(self) -> bool:
        """Whether readers were ever taken back."""
        publisher = self.whole.pipeline.publisher
        return publisher is not None and publisher.published.withdrawn > 0

    def close(self) -> None:
        """Whoever sees the whole stream ends."""
        self.whole.pipeline.snapshots.close()
        self.letters.close()
        if self.whole.pipeline.publisher is not None:
            self.whole.pipeline.publisher.close()

    # -- members

    def join(self) -> Member:
        """One more member, that holds nothing yet."""
        lanes = Lanes(self.index, self.state / "manifest.jsonl", self.clock)  # type: ignore[arg-type]
        news = NewsReader(self.state / FOLDER)

        def open_cell(partition: Partition) -> Cell:
            cell = joining.open_cell(self.settings, partition, lanes, news, self.clock)
            step = cell.step

            def noted(lag: int | None) -> int:
                self.index.positions = cell.pipeline.state.positions
                return step(lag)

            cell.step = noted  # type: ignore[method-assign]
            return cell

        member = Member(
            lambda moves: Held(self.messages, moves),
            open_cell,
            news,
            self.clock,
            Stop(),
            batch=MEMBERS_BATCH,
            snapshot_every_s=EVERY_S,
        )
        self.members.append(member)
        return member

    def give(self, partition: Partition, to: Member | None) -> None:
        """The group gives a partition away; who sleeps is not told."""
        before = self.owner[partition]
        if before is to:
            return
        if before is not None and before not in self.asleep and before in self.members:
            source(before).held.discard(partition)
            source(before).begun.discard(partition)
            before._taken([partition])
        self.owner[partition] = to
        if to is not None:
            source(to).held.add(partition)
            to._given([partition])

    def balance(self) -> None:
        """Give every partition to one of those who are awake."""
        awake = [m for m in self.members if m not in self.asleep]
        for partition in self.partitions:
            self.give(partition, awake[int(self.rng.integers(len(awake)))] if awake else None)

    def leave(self, member: Member) -> None:
        """A member ends in order."""
        member.stop.request()
        member.run()
        self._forget(member)

    def kill(self, member: Member) -> None:
        """A member ends here and now."""
        for cell in member.cells.values():
            cell.close()  # the system does
        self._forget(member)

    def sleep(self, member: Member) -> None:
        """A member stands still; its partitions are given away without its knowing."""
        self.asleep.append(member)
        for partition, owner in self.owner.items():
            if owner is member:
                self.owner[partition] = None

    def wake(self, member: Member) -> None:
        """It goes on for a while in the belief that nothing has happened, and then is told."""
        for _ in range(int(self.rng.integers(3))):
            member.step()
        lost = list(source(member).held)
        source(member).held.clear()
        source(member).begun.clear()
        member._taken(lost)
        self.asleep.remove(member)

    def _forget(self, member: Member) -> None:
        self.members.remove(member)
        for partition, owner in self.owner.items():
            if owner is member:
                self.owner[partition] = None


def source(member: Member) -> Held:
    """What a member reads."""
    assert isinstance(member.source, Held)
    return member.source
