"""What all consumers do alike: reach the cluster, be placed, ask how far behind they are."""

from collections.abc import Iterable, Mapping, Sequence

from kafka.errors import KafkaError

from stream.batch import Partition
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_client import Consumer, cluster_of, natives, new_consumer, ours
from stream.kafka_places import Places
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
    # The client loses this option on the way to where it is used, and would make a topic that has
    # been deleted anew, as the broker's defaults have it.
    cluster_of(consumer).config["allow_auto_create_topics"] = False
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


def recognise(consumer: Consumer, places: Places, topics: Sequence[str]) -> None:
    """See that the topics are those that were read; close the consumer if they are not.

    Raises
    ------
    SourceError
        If the cluster does not answer; `TopicReplaced` if a topic has been made anew.
    """
    try:
        places.recognise(consumer, topics)
    except SourceError:
        close(consumer)
        raise
    except KafkaError as failed:
        close(consumer)
        raise SourceError(f"Kafka does not tell of {', '.join(topics)}: {failed!r}") from failed


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
