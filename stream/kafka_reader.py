"""Events from Kafka without a group: for whoever follows a state and answers for none."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

from kafka.errors import KafkaError, OffsetOutOfRangeError

from stream.batch import Partition, RecordBatch
from stream.errors import RetentionPassed, SourceError
from stream.kafka_client import natives
from stream.kafka_consumer import behind, close, connect, recognise
from stream.kafka_places import Places
from stream.kafka_topics import KafkaCluster
from stream.topic import Topic

METADATA_EVERY_MS = 30_000
"""Between two looks at which topic it is."""


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """What to read, and how.

    Attributes
    ----------
    start : "earliest" or "latest"
        Where to begin on a partition without a position.
    fetch_bytes : int
        Most bytes of one partition in one answer of a broker; one larger message still comes.
    """

    cluster: KafkaCluster
    topic: str
    start: Literal["earliest", "latest"] = "earliest"
    connect_timeout_s: float = 30.0
    fetch_bytes: int = 1 << 20

    def options(self) -> dict[str, object]:
        """Return kafka-python's keyword arguments."""
        return {
            **self.cluster.options(),
            "client_id": "goat",
            "group_id": None,
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "isolation_level": "read_committed",
            "bootstrap_timeout_ms": int(self.connect_timeout_s * 1_000),
            "metadata_max_age_ms": METADATA_EVERY_MS,
            "max_partition_fetch_bytes": self.fetch_bytes,
            "metrics_enabled": False,
        }


class KafkaReader:
    """A `Source` of all partitions of a topic that commits nothing and joins nothing.

    Partitions that are added to the topic while it reads are read after it is opened anew.

    Parameters
    ----------
    config : ReaderConfig
    positions : partition -> next offset
    topics : name -> Topic, optional
        That whoever left the positions had read.

    Raises
    ------
    SourceError
        If the cluster does not answer or has no such topic; `TopicReplaced` if it is another.
    """

    def __init__(
        self,
        config: ReaderConfig,
        positions: Mapping[Partition, int],
        topics: Mapping[str, Topic] | None = None,
    ) -> None:
        self._config = config
        self._closed = False
        self._consumer = connect(
            config.cluster, config.options(), (config.topic,), config.connect_timeout_s
        )
        numbers = sorted(self._consumer.partitions_for_topic(config.topic) or ())
        self._held = [Partition(config.topic, number) for number in numbers]
        self._places = Places(positions, deepcopy(dict(topics or {})), config.start)
        recognise(self._consumer, self._places, (config.topic,))
        self._consumer.assign(natives(self._held))
        self._places.place(self._consumer, self._held)

    def poll(self, max_records: int, timeout_s: float) -> Sequence[RecordBatch]:
        try:
            polled = self._consumer.poll(int(timeout_s * 1_000), max_records)
            self._places.compare(self._consumer)
            return self._places.batches(self._consumer, polled)
        except OffsetOutOfRangeError as gone:
            raise RetentionPassed(
                f"{self._where()}: {gone.args[0]} is what is read next, and is not there: begin "
                "again from a newer snapshot"
            ) from gone
        except KafkaError as failed:
            raise SourceError(f"{self._where()} cannot be read on: {failed!r}") from failed

    def seek(self, positions: Mapping[Partition, int]) -> None:
        known = [partition for partition in self._held if partition in positions]
        self._places.positions.update(positions)
        self._places.place(self._consumer, known)

    def pause(self) -> None:
        self._consumer.pause(*natives(self._held))

    def resume(self) -> None:
        self._consumer.resume(*natives(self._held))

    def advise(self, positions: Mapping[Partition, int]) -> None:
        """Do nothing: positions are those of whose state is followed."""

    def lag(self) -> Mapping[Partition, int]:
        """Messages not yet read, as the broker says now.

        Raises
        ------
        SourceError
            If it does not answer.
        """
        try:
            lags = behind(self._consumer, self._held)
        except KafkaError as failed:
            raise SourceError(f"{self._where()} does not say how far it is: {failed!r}") from failed
        return {partition: max(0, lag) for partition, lag in lags.items()}

    @property
    def exhausted(self) -> bool:
        return False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            close(self._consumer)

    def _where(self) -> str:
        return f"{self._config.topic} at {self._config.cluster.bootstrap}"
