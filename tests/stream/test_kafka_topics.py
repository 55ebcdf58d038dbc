"""A cluster as a whole: reached, asked, refused in words that help."""

import socket
from collections.abc import Iterator

import pytest

from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_topics import KafkaCluster, await_broker, await_listener, ensure_topic, topics


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of something that listens and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_secrets_are_handed_on_and_not_shown() -> None:
    cluster = KafkaCluster("a:1,b:2", {"sasl_plain_password": "secret"})
    assert cluster.options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "sasl_plain_password": "secret",
    }
    assert "secret" not in repr(cluster)


@pytest.mark.parametrize(
    ("bootstrap", "security"), [("", {}), ("a:1", {"group_id": "g"}), ("a:1", {"acks": 0})]
)
def test_other_options_are_refused(bootstrap: str, security: dict[str, object]) -> None:
    with pytest.raises(SourceError, match="give host:port and only such options"):
        KafkaCluster(bootstrap, security)


@pytest.mark.parametrize("bootstrap", ["127.0.0.1:1", "nonsense", "127.0.0.1:x", "[::1]:1"])
def test_nobody_there_is_said_with_the_address(bootstrap: str) -> None:
    with pytest.raises(SourceError, match="no Kafka broker answers at") as refused:
        await_listener(KafkaCluster(bootstrap), Deadline.after(0.0))
    assert bootstrap in str(refused.value)


def test_one_of_several_is_enough(silent: str) -> None:
    await_listener(KafkaCluster(f"127.0.0.1:1,{silent}"), Deadline.after(0.0))


def test_a_broker_that_comes_late_is_waited_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        cluster = KafkaCluster(f"127.0.0.1:{server.getsockname()[1]}")
        asked = iter(range(3))

        def now_s() -> float:
            if next(asked, None) is None:
                server.listen()
            return 0.0

        await_listener(cluster, Deadline(1.0, now_s))


def test_what_listens_and_is_no_kafka_is_said(silent: str) -> None:
    with pytest.raises(SourceError, match="does not answer as Kafka"):
        topics(KafkaCluster(silent), Deadline.after(0.3))


def test_topics_are_made_once(kafka: str) -> None:
    cluster = KafkaCluster(kafka)
    assert ensure_topic(cluster, "made-once", Deadline.after(30), partitions=2)
    assert not ensure_topic(cluster, "made-once", Deadline.after(30))
    assert "made-once" in await_broker(kafka, Deadline.after(30))


def test_a_topic_that_the_broker_refuses_is_said(kafka: str) -> None:
    with pytest.raises(SourceError, match=r"topic 'no/such name' cannot be created"):
        ensure_topic(KafkaCluster(kafka), "no/such name", Deadline.after(30))


def test_a_deadline_passes_and_never_hands_out_nothing() -> None:
    now = [5.0]
    deadline = Deadline.after(2.0, lambda: now[0])
    assert (deadline.remaining_s, deadline.remaining_ms, deadline.passed) == (2.0, 2_000, False)
    now[0] = 8.0
    assert (deadline.remaining_s, deadline.remaining_ms, deadline.passed) == (0.0, 1, True)
