"""Where a reader is in the partitions of its topics, and whether they are still the same.

An offset means something only in the log that it was counted in. A topic that was deleted and made
anew has other messages at the same offsets, and so has a partition whose newest messages were lost
with its leader. So a state keeps, beside its offsets, Kafka's id of the topic and the leader epoch
of the last message of each partition, and both are compared before anything is read on.

A place also goes over offsets that hold no message (compacted away, aborted, the mark of a
transaction): they are counted, and when retention deletes them nothing is missed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from stream.batch import Headers, Partition, RecordBatch
from stream.errors import TopicReplaced
from stream.kafka_client import (
    Consumer,
    Record,
    RecordHeaders,
    cluster_of,
    epoch_of,
    headers_of,
    native,
    natives,
    offset_of,
    ours,
    place_of,
    seek,
    value_of,
)
from stream.topic import Topic

ASK_TIMEOUT_MS = 2_000
_NO_ID = "00000000-0000-0000-0000-000000000000"


class Places:
    """Positions of partitions, and the topics that they are of.

    Parameters
    ----------
    positions : partition -> next offset
        That are known.
    topics : name -> Topic
        That are known; those read for the first time are added, and it is kept up to date.
    start : "earliest" or "latest"
        Where to begin in a partition without a position that was there when reading of its topic
        began. One that was added since is read from its beginning: nobody can have read it.
    """

    def __init__(
        self,
        positions: Mapping[Partition, int],
        topics: dict[str, Topic],
        start: Literal["earliest", "latest"],
    ) -> None:
        self.positions = dict(positions)
        self._topics = topics
        self._start = start
        self._at_end: set[Partition] = set()

    def recognise(self, consumer: Consumer, names: Iterable[str]) -> None:
        """Compare the topics that are there with those that were read.

        Raises
        ------
        TopicReplaced
            If one has been made anew.
        KafkaError
            If the cluster does not answer.
        """
        cluster = cluster_of(consumer)
        for name in names:
            found = _id_of(consumer, name)
            known = self._topics.get(name)
            if known is None:
                there = cluster.partitions_for_topic(name) or ()
                self._topics[name] = Topic(found, len(there))
            elif known.id and found and known.id != found:
                raise self._replaced(consumer, name, known.id, found)
            else:
                known.id = found or known.id

    def compare(self, consumer: Consumer) -> list[str]:
        """Compare again with what the client has heard since; which topics it hears of no more.

        Raises
        ------
        TopicReplaced
            If one has been made anew.
        KafkaError
            If so, and the cluster does not answer.
        """
        cluster, gone = cluster_of(consumer), list[str]()
        for name, known in self._topics.items():
            found = _id_of(consumer, name)
            if cluster.partitions_for_topic(name) is None:
                gone.append(name)
            elif known.id and found and found != known.id:
                raise self._replaced(consumer, name, known.id, found)
        return gone

    def there(self, consumer: Consumer) -> set[Partition]:
        """Partitions of the topics, as the client has last heard."""
        found = {name: cluster_of(consumer).partitions_for_topic(name) for name in self._topics}
        return {Partition(name, n) for name, numbers in found.items() for n in numbers or ()}

    def at(self, name: str) -> dict[str, int]:
        """Positions in a topic, as they are told."""
        return {str(p): at for p, at in sorted(self.positions.items()) if p.topic == name}

    def know(
        self, consumer: Consumer, partition: Partition, offset: int | None, known: Topic | None
    ) -> None:
        """Take in what another has read of a partition, up to an offset; None for nothing.

        Raises
        ------
        TopicReplaced
            If it was of another topic of this name.
        """
        self.positions.pop(partition, None)
        if offset is not None:
            self.positions[partition] = offset
        topic = self._topics[partition.topic]
        topic.epochs.pop(partition.number, None)
        if known is not None:
            if known.id and topic.id and known.id != topic.id:
                raise self._replaced(consumer, partition.topic, known.id, topic.id)
            topic.epochs.update(known.epochs)

    def topic_of(self, partition: Partition) -> Topic:
        """What is known of a partition's topic, of itself alone."""
        topic, number = self._topics[partition.topic], partition.number
        epochs = {number: topic.epochs[number]} if number in topic.epochs else {}
        return Topic(topic.id, topic.partitions, epochs)

    def place(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Have partitions read on from their positions, and where there is none from an end."""
        for partition in partitions:
            topic = self._topics.get(partition.topic)
            if partition in self.positions:
                epoch = -1 if topic is None else topic.epochs.get(partition.number, -1)
                seek(consumer, partition, self.positions[partition], epoch)
            elif self._start == "latest" and topic and partition.number < topic.partitions:
                self._at_end.add(partition)
                consumer.seek_to_end(native(partition))
            else:
                consumer.seek_to_beginning(native(partition))

    def batches(
        self, consumer: Consumer, polled: Mapping[Partition, Sequence[Record]]
    ) -> list[RecordBatch]:
        """What was polled, partition by partition, and positions moved accordingly.

        A batch without messages says that its partition is further on, or where it begins.

        Raises
        ------
        KafkaError
            If a partition is read for the first time, and the cluster does not answer.
        """
        found: list[RecordBatch] = []
        for partition in sorted(map(ours, consumer.assignment())):
            records = polled.get(partition, ())
            at = place_of(consumer, partition)
            if records:
                at = max(at or 0, _int(offset_of(records[-1])) + 1)
                topic = self._topics[partition.topic]
                topic.epochs[partition.number] = _int(epoch_of(records[-1]))
            elif at is None or at <= self.positions.get(partition, self._before(partition)):
                continue
            passed = self._passed(consumer, partition, records, at)
            self.positions[partition] = at
            found.append(batch_of(partition, records, at, passed))
        return found

    def _before(self, partition: Partition) -> int:
        """What the first position of a partition must be above to be worth telling."""
        return -1 if partition in self._at_end else 0

    def _passed(
        self, consumer: Consumer, partition: Partition, records: Sequence[Record], at: int
    ) -> int:
        """Offsets without a message, up to ``at``."""
        begin = self.positions.get(partition)
        if begin is None and not records:
            return 0
        if begin is None:
            begin = _int(offset_of(records[0]))
            if begin and partition not in self._at_end:
                asked = native(partition)
                begin = consumer.beginning_offsets([asked], ASK_TIMEOUT_MS)[asked]
        return at - begin - len(records)

    def _replaced(self, consumer: Consumer, name: str, known: str, found: str) -> TopicReplaced:
        numbers = sorted(cluster_of(consumer).partitions_for_topic(name) or ())
        asked = natives(Partition(name, number) for number in numbers)
        ends = consumer.end_offsets(asked, ASK_TIMEOUT_MS)
        told = {str(ours(partition)): end for partition, end in ends.items()}
        return TopicReplaced(
            f"topic {name} was deleted and made anew: its id is {found}, the state has read "
            f"{known}. The state is at {self.at(name)}, the topic ends at {told}. Start with a new "
            "state, or name the topic that the state was made from"
        )


def batch_of(
    partition: Partition, records: Sequence[Record], next_offset: int, passed: int
) -> RecordBatch:
    """Turn records into columns without touching them one by one."""
    values = list(map(value_of, records))
    headers = list(map(headers_of, records))
    return RecordBatch(
        partition=partition,
        offsets=np.fromiter(map(offset_of, records), np.int64, count=len(records)),
        values=[value or b"" for value in values],
        next_offset=next_offset,
        headers=list(map(_headers, headers)) if any(headers) else None,
        passed=passed,
    )


def _headers(headers: RecordHeaders) -> Headers:
    return tuple((name, value or b"") for name, value in headers)


def _id_of(consumer: Consumer, name: str) -> str:
    found = str(cluster_of(consumer).topic_id(name) or "")
    return "" if found == _NO_ID else found


def _int(value: object) -> int:
    return int(str(value))
