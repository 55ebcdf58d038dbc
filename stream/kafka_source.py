"""Events from Kafka: a consumer group for the partitions, our own state for the positions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kafka.errors import (
    FencedInstanceIdError,
    KafkaError,
    OffsetOutOfRangeError,
)

from stream.batch import Partition, RecordBatch
from stream.clock import Clock
from stream.errors import LogShortened, RetentionPassed, SourceError
from stream.kafka_client import (
    COOPERATIVE,
    AssignmentListener,
    LogTruncation,
    committed,
    native,
    natives,
    ours,
    parted,
    rejoin,
    seek,
)
from stream.kafka_consumer import ASK_TIMEOUT_MS, behind, close, connect, recognise
from stream.kafka_places import Places
from stream.kafka_topics import KafkaCluster
from stream.kafka_watch import StallWatch
from stream.topic import Topic


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """What to read, and how.

    Attributes
    ----------
    start : "earliest" or "latest"
        Where to begin on a partition whose position the state does not know and that was there
        when the state began; one that was added since is read from its beginning. Never used to
        jump over what retention has deleted: that is an error.
    isolation : "read_committed" or "read_uncommitted"
        Whether messages of aborted and unfinished transactions are left out.
    max_poll_interval_s : float
        Time between two polls after which the group takes our partitions away.
    session_timeout_s : float
        Time without heartbeat after which it does so.
    member : str
        A name by which the group knows us again after a crash: the partitions come back at once,
        not when the session has timed out. Without one, every start is a new member.
    stall_after_s, check_every_s : float
        See `StallWatch`. A topic that is gone is waited for as long.
    metadata_every_s : float
        Age of what is known of the topics beyond which it is asked for again: added partitions,
        and a topic that was made anew, are noticed no later.
    fetch_bytes : int
        Most bytes of one partition in one answer of a broker; one larger message still comes.
    """

    cluster: KafkaCluster
    topics: tuple[str, ...]
    group: str
    start: Literal["earliest", "latest"] = "earliest"
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    max_poll_interval_s: float = 300.0
    session_timeout_s: float = 45.0
    connect_timeout_s: float = 30.0
    stall_after_s: float = 60.0
    check_every_s: float = 5.0
    metadata_every_s: float = 30.0
    fetch_bytes: int = 4 << 20
    member: str = ""

    def options(self) -> dict[str, object]:
        """Return kafka-python's keyword arguments."""
        return {
            **self.cluster.options(),
            "client_id": "goat",
            "group_id": self.group,
            "group_instance_id": self.member or None,
            # Neither of the two policies: an offset out of range is raised.
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "isolation_level": self.isolation,
            "partition_assignment_strategy": COOPERATIVE,
            "max_poll_interval_ms": int(self.max_poll_interval_s * 1_000),
            "session_timeout_ms": int(self.session_timeout_s * 1_000),
            "heartbeat_interval_ms": int(self.session_timeout_s * 1_000 / 15),
            "bootstrap_timeout_ms": int(self.connect_timeout_s * 1_000),
            "max_partition_fetch_bytes": self.fetch_bytes,
            "metadata_max_age_ms": int(self.metadata_every_s * 1_000),
            "metrics_enabled": False,
        }


@dataclass(frozen=True, slots=True)
class Moves:
    """Who keeps a state for each partition, and is told of their coming and going.

    Both are called on the client's own thread, and heartbeats wait for them: quick, and without a
    call of the source.

    Attributes
    ----------
    given : callable
        Told of partitions newly held; nothing is read from one until `KafkaSource.begin`.
    taken : callable
        Told of partitions that are another member's when it returns, or already.
    """

    given: Callable[[Sequence[Partition]], None]
    taken: Callable[[Sequence[Partition]], None]


class KafkaSource:
    """A member of a consumer group that reads on from positions of our own.

    Partitions come and go by the group's protocol; where to read on in one is never the group's
    word. Kafka's committed offsets are written by `advise` for lag tools, and not read. One that
    comes back is read on from where it was, unless there are ``moves``, who then say where.

    Parameters
    ----------
    config : KafkaConfig
    positions : mapping
        Next offset of each partition that the state knows.
    clock : Clock
        For the watchdog.
    topics : name -> Topic, optional
        That the state has read; kept up to date here, and saved with the positions.
    moves : Moves, optional

    Raises
    ------
    SourceError
        If the cluster does not answer or has no such topic; `TopicReplaced` if it is not the one
        that the state has read.
    """

    def __init__(
        self,
        config: KafkaConfig,
        positions: Mapping[Partition, int],
        clock: Clock,
        topics: dict[str, Topic] | None = None,
        *,
        moves: Moves | None = None,
    ) -> None:
        self._config = config
        self._moves = moves
        self._places = Places(positions, {} if topics is None else topics, config.start)
        self._watch = StallWatch(clock, config.stall_after_s, config.check_every_s)
        self._paused = False
        self._joined = -1  # with so many partitions there
        self._closed = False
        self._consumer = connect(
            config.cluster, config.options(), config.topics, config.connect_timeout_s
        )
        recognise(self._consumer, self._places, config.topics)
        gone = () if moves is None else (moves.taken, moves.taken)
        self._consumer.subscribe(config.topics, listener=AssignmentListener(self._assigned, *gone))

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        try:
            polled = self._consumer.poll(int(timeout_s * 1_000), max_records)
            self._watch.gone(self._places.compare(self._consumer))
            batches = self._places.batches(self._consumer, polled)
            self._share_out()
        except OffsetOutOfRangeError as gone:
            raise self._out_of_range(gone) from gone
        except LogTruncation as lost:
            raise LogShortened(
                f"{self._where()}: messages that the state has read are lost, with the broker that "
                f"led them (partition: position, where its log parts from what was read): "
                f"{self._parting(lost)}. Start with a new state, or restore the topic"
            ) from lost
        except FencedInstanceIdError as fenced:
            raise SourceError(
                f"{self._where()}: another member of group {self._config.group} has come under "
                f"our name, {self._config.member}: only one may work on a state"
            ) from fenced
        except KafkaError as failed:
            raise SourceError(f"{self._where()} cannot be read on: {failed!r}") from failed
        self._look_after(batches)
        return batches

    def seek(self, positions: Mapping[Partition, int]) -> None:
        self._places.positions.update(positions)
        self._place(self.assignment() & positions.keys())

    def begin(self, partition: Partition, offset: int | None, known: Topic | None) -> bool:
        """Read a partition that was given, from an offset, or where that is None from its start.

        Parameters
        ----------
        known : Topic or None
            That the offset is of.

        Returns
        -------
        bool
            Whether it is still held.

        Raises
        ------
        TopicReplaced
            If the topic has been made anew since.
        """
        self._places.know(self._consumer, partition, offset, known)
        try:
            self._place([partition])
            self._consumer.resume(native(partition))
        except (ValueError, KeyError):  # what the client says of a partition that it has not
            return False
        self._watch.moved([partition])
        return True

    def pause(self) -> None:
        self._paused = True
        self._consumer.pause(*natives(self.assignment()))

    def resume(self) -> None:
        self._paused = False
        self._watch.moved(self.assignment())
        self._consumer.resume(*natives(self.assignment()))

    def advise(self, positions: Mapping[Partition, int]) -> None:
        held = self.assignment()
        # Not waited for: nothing of ours depends on it, and a partition that has just gone to
        # another member is that member's to speak for.
        if mine := {p: offset for p, offset in positions.items() if p in held}:
            self._consumer.commit_async(committed(mine))

    def lag(self) -> Mapping[Partition, int]:
        """Messages not yet read in the partitions held, as of the broker's last answer."""
        lags: dict[Partition, int] = {}
        for held in natives(self.assignment()):
            end = self._consumer.highwater(held)
            position = self._consumer.position(held, ASK_TIMEOUT_MS)
            if end is not None and position is not None:
                lags[ours(held)] = max(0, end - position)
        return lags

    def assignment(self) -> set[Partition]:
        """Partitions held now."""
        return {ours(p) for p in self._consumer.assignment()}

    def topic_of(self, partition: Partition) -> Topic:
        """What is known of a partition's topic, of itself alone."""
        return self._places.topic_of(partition)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._consumer.partitions_for_topic(topic) or ())

    @property
    def exhausted(self) -> bool:
        return False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            close(self._consumer)

    def _assigned(self, partitions: Sequence[Partition]) -> None:
        """Place newly held partitions; on the client's own thread, before it fetches from them."""
        self._watch.moved(partitions)
        if self._moves is not None:
            # Without a place the client would ask the group for one, and end for want of it.
            self._consumer.pause(*natives(partitions))
            for partition in partitions:
                seek(self._consumer, partition, 0, -1)
            self._moves.given(partitions)
            return
        self._place(partitions)
        self._joined = max(self._joined, 0)
        if self._paused:
            self._consumer.pause(*natives(partitions))

    def _share_out(self) -> None:
        """See that somebody has the partitions that were added, also while nobody ran.

        A member that comes back under its name is given what it had, and is not told that it is
        the one to share out.
        """
        there = self._places.there(self._consumer)
        if 0 <= self._joined < len(there):
            if there - self.assignment():
                rejoin(self._consumer)
            self._joined = len(there)

    def _place(self, partitions: Iterable[Partition]) -> None:
        self._places.place(self._consumer, partitions)

    def _look_after(self, batches: Sequence[RecordBatch]) -> None:
        """Ask the broker about partitions that gave nothing for a while."""
        if batches:
            self._watch.heard()
            self._watch.moved(batch.partition for batch in batches)
        silent = [] if self._paused else self._watch.silent(self.assignment())
        if not silent:
            return
        try:
            lags = behind(self._consumer, silent)
        except KafkaError as failed:
            self._watch.unanswered(self._config.cluster.bootstrap, failed)
            return
        self._watch.answered(lags)

    def _out_of_range(self, gone: OffsetOutOfRangeError) -> SourceError:
        """Say which offsets the broker has, beside the one that the state needs."""
        wanted: Mapping[Partition, int] = gone.args[0]
        first = self._consumer.beginning_offsets(list(wanted), ASK_TIMEOUT_MS)
        last = self._consumer.end_offsets(list(wanted), ASK_TIMEOUT_MS)
        for partition, offset in wanted.items():
            if offset < first[partition]:
                return RetentionPassed(
                    f"{ours(partition)}@{offset} is what the state reads next, but the broker "
                    f"has deleted everything before {first[partition]}: "
                    f"{first[partition] - offset} messages are lost. Start with a new state, or "
                    "restore the topic; then keep a longer retention than the state may be idle"
                )
        found = {str(ours(p)): (offset, last[p]) for p, offset in wanted.items()}
        return SourceError(
            f"the state is ahead of the topic (partition: position, end): {found}; the topic was "
            "made anew or another cluster is meant: start with a new state, or name the right one"
        )

    def _parting(self, lost: Exception) -> dict[str, tuple[int, int | None]]:
        found = {ours(p): parting for p, parting in parted(lost).items()}
        return {str(p): (self._places.positions[p], parting) for p, parting in found.items()}

    def _where(self) -> str:
        return f"{','.join(self._config.topics)} at {self._config.cluster.bootstrap}"
