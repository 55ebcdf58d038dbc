"""What all consumers do alike: reach the cluster, be placed, ask how far behind they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from kafka.errors import KafkaError

from stream.batch import Partition
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_client import Consumer, native, natives, new_consumer, ours
from stream.kafka_topics import KafkaCluster, await_kafka

ASK_TIMEOUT_MS = 2_000
CLOSE_TIMEOUT_MS = 5_000


def connect(
    cluster: KafkaCluster, options: Mapping[str, object], topics: Sequence[str], timeout_s: float
) -> Consumer:
    """Make a consumer of a cluster that has these topics.

    Parameters
    ----------
    options : kafka-python's keyword arguments

    Raises
    ------
    SourceError
        If the cluster does not answer or has no such topic.
    """
    await_kafka(cluster, Deadline.after(timeout_s))
    try:
        consumer = new_consumer(**options)
    except KafkaError as failed:
        raise SourceError(
            f"what listens at {cluster.bootstrap} does not answer as Kafka: {failed!r}. "
            "Do the security options match the broker's listener?"
        ) from failed
    # Subscribed to a missing topic, the client would wait for it without a word.
    try:
        missing = sorted(set(topics) - consumer.topics())
    except KafkaError as failed:
        close(consumer)
        raise SourceError(
            f"Kafka at {cluster.bootstrap} does not list its topics: {failed!r}"
        ) from failed
    if missing:
        close(consumer)
        raise SourceError(
            f"Kafka at {cluster.bootstrap} has no topic {', '.join(missing)}: create it, "
            "correct the name, or let this user see it"
        )
    return consumer


def place(
    consumer: Consumer,
    partitions: Iterable[Partition],
    positions: Mapping[Partition, int],
    start: Literal["earliest", "latest"],
) -> None:
    """Have partitions read on from their positions, and where there is none from an end."""
    unknown: list[Partition] = []
    for partition in partitions:
        if partition in positions:
            consumer.seek(native(partition), positions[partition])
        else:
            unknown.append(native(partition))
    if unknown and start == "earliest":
        consumer.seek_to_beginning(*unknown)
    elif unknown:
        consumer.seek_to_end(*unknown)


def behind(consumer: Consumer, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Messages between each partition's position and its end, as the broker says now.

    Raises
    ------
    KafkaError
        If it does not answer.
    """
    asked = natives(partitions)
    ends = consumer.end_offsets(asked, ASK_TIMEOUT_MS)
    at = {p: consumer.position(p, ASK_TIMEOUT_MS) for p in asked}
    return {ours(p): ends[p] - (at[p] or 0) for p in asked}


def close(consumer: Consumer) -> None:
    """Close it without committing anything."""
    consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
