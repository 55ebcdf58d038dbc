"""A Kafka cluster as a whole: is it there, which topics has it, make one."""

import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from kafka.errors import KafkaError, TopicAlreadyExistsError

from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_client import Admin, new_admin
from stream.kafka_hello import greet

CONNECT_TIMEOUT_S = 2.0
CONNECT_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """How to reach a cluster.

    Attributes
    ----------
    bootstrap : str
        ``host:port``, several separated by commas.
    security : mapping
        Options of kafka-python whose names begin with ``security_``, ``sasl_`` or ``ssl_``, handed
        through as they are. Not shown by ``repr``: they hold secrets.
    """

    bootstrap: str
    security: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)

    def __post_init__(self) -> None:
        strange = [n for n in self.security if not n.startswith(("security_", "sasl_", "ssl_"))]
        if strange or not self.bootstrap:
            raise SourceError(
                f"Kafka connection: bootstrap {self.bootstrap!r}, options {strange} are not "
                "security_*, sasl_* or ssl_*; give host:port and only such options"
            )

    def options(self) -> dict[str, object]:
        """Return the keyword arguments that every kafka-python client takes."""
        return {"bootstrap_servers": self.bootstrap.split(","), **self.security}


def await_listener(cluster: KafkaCluster, deadline: Deadline) -> None:
    """Wait until something listens at one of the bootstrap addresses; asks at least once.

    A client of kafka-python that is made before that leaves a thread and a socket behind.

    Raises
    ------
    SourceError
        If nothing does in time.
    """
    while True:
        reasons = [_refusal(address) for address in cluster.bootstrap.split(",")]
        if not all(reasons):
            return
        if deadline.passed:
            raise SourceError(
                f"no Kafka broker answers at {cluster.bootstrap}: {'; '.join(map(str, reasons))}. "
                "Is the address right (host:port), and the broker running?"
            )
        # Nobody sets it: a pause that a signal can end.
        Event().wait(CONNECT_EVERY_S)


def await_kafka(cluster: KafkaCluster, deadline: Deadline) -> None:
    """Wait for a listener, and make sure that one of the addresses lets us in.

    One that accepts the connection and says nothing is left to the client, which has more patience.

    Raises
    ------
    SourceError
        If nothing listens in time, or all that do refuse us.
    """
    await_listener(cluster, deadline)
    refusals: list[SourceError] = []
    for address in cluster.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            greet(host.strip("[]"), int(port), cluster.security, deadline)
        except SourceError as refused:
            refusals.append(refused)
        except (OSError, ValueError):
            continue
        else:
            return
    if refusals:
        raise refusals[0]


def _refusal(address: str) -> str | None:
    """Return why nothing can be reached at ``host:port``, None when something can."""
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as refused:
        return str(refused)
    return None


@contextmanager
def _admin(cluster: KafkaCluster, deadline: Deadline) -> Generator[Admin]:
    await_kafka(cluster, deadline)
    try:
        admin = new_admin(**cluster.options(), bootstrap_timeout_ms=deadline.remaining_ms)
    except KafkaError as failed:
        raise SourceError(
            f"what listens at {cluster.bootstrap} does not answer as Kafka: {failed!r}. "
            "Do the security options match the broker's listener?"
        ) from failed
    try:
        yield admin
    finally:
        admin.close()


def await_broker(bootstrap: str, deadline: Deadline) -> list[str]:
    """Return the topics of a broker that may still be starting.

    Raises
    ------
    SourceError
        If nothing listens there, or what listens gives no metadata in time.
    """
    cluster = KafkaCluster(bootstrap)
    await_listener(cluster, Deadline.after(0.0))
    return topics(cluster, deadline)


def topics(cluster: KafkaCluster, deadline: Deadline) -> list[str]:
    """Return the names of the cluster's topics.

    Raises
    ------
    SourceError
        If the cluster does not answer in time.
    """
    with _admin(cluster, deadline) as admin:
        try:
            return admin.list_topics()
        except KafkaError as failed:
            raise SourceError(
                f"Kafka at {cluster.bootstrap} does not list its topics: {failed!r}"
            ) from failed


def ensure_topic(
    cluster: KafkaCluster,
    topic: str,
    deadline: Deadline,
    *,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
) -> bool:
    """Create a topic, unless it is there, and await its leaders; return whether it was made.

    Parameters
    ----------
    config : topic settings, e.g. ``{"retention.ms": "86400000"}``

    Raises
    ------
    SourceError
        If the cluster does not answer, or refuses.
    """
    wanted = {topic: {"num_partitions": partitions, "configs": dict(config or {})}}
    with _admin(cluster, deadline) as admin:
        try:
            admin.create_topics(wanted, timeout_ms=deadline.remaining_ms, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            return False
        except KafkaError as failed:
            raise SourceError(
                f"topic {topic!r} cannot be created at {cluster.bootstrap}: {failed!r}; create it "
                "by hand, or allow this client to"
            ) from failed
    return True
