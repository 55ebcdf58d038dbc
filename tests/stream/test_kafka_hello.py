"""The first exchange with what may be a broker: no Kafka is said, what is silent is left."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka.errors import KafkaTimeoutError

from stream import kafka_consumer, kafka_topics
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_hello import greet, tls_context
from stream.kafka_topics import KafkaCluster, await_kafka
from tests.system.authority import HOST, Authority

SCRAM = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-256",
    "sasl_plain_username": "shop",
    "sasl_plain_password": "hush",
}
VERSIONS = bytes.fromhex("0000000a 00000001 0000 00000000")  # no error, and nothing is known
SCRAM_IS_FINE = bytes.fromhex("0000000a 00000002 0000 00000000")


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """Port of something that gives these answers, one a message, and then hangs up."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    connection.recv(4_096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_what_is_no_kafka_is_said() -> None:
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        pytest.raises(SourceError, match=f"Kafka at {HOST}:{port} does not answer as Kafka"),
    ):
        greet(HOST, port, {}, Deadline.after(5))


def test_who_hangs_up_at_once_may_be_starting() -> None:
    with answering(b"") as port, pytest.raises(ConnectionError, match="closed the connection"):
        greet(HOST, port, {}, Deadline.after(5))


def test_who_hangs_up_when_more_is_asked_wants_a_password() -> None:
    with answering(VERSIONS, b"") as port, pytest.raises(SourceError, match="ask for SASL"):
        greet(HOST, port, {}, Deadline.after(5))


def test_a_broker_that_does_not_know_the_password_is_not_trusted() -> None:
    """It answers the first word of SCRAM with nonsense."""
    nonsense = bytes.fromhex("00000015 00000003 0000 ffff 00000009") + b"r=x,s=,i="
    with (
        answering(VERSIONS, SCRAM_IS_FINE, nonsense) as port,
        pytest.raises(SourceError, match="does not prove that it knows the password"),
    ):
        greet(HOST, port, SCRAM, Deadline.after(5))


def test_what_is_silent_is_left_to_the_client() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TimeoutError):
            greet(HOST, port, {}, Deadline.after(0.05))
        await_kafka(KafkaCluster(f"{HOST}:{port}"), Deadline.after(0.05))


class Silenced:
    """A client that was let in, and gets no answer after that."""

    closed = False
    _cluster = SimpleNamespace(config={})

    def topics(self) -> set[str]:
        raise KafkaTimeoutError("gone")

    list_topics = topics

    def close(self, **_: object) -> None:
        self.closed = True


def test_a_broker_that_goes_after_the_greeting_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    client, cluster = Silenced(), KafkaCluster("a:1")
    for module, name in ((kafka_consumer, "new_consumer"), (kafka_topics, "new_admin")):
        monkeypatch.setattr(module, "await_kafka", lambda *_: None)
        monkeypatch.setattr(module, name, lambda **_: client)
    with pytest.raises(SourceError, match="a:1 does not list its topics"):
        kafka_consumer.connect(cluster, {}, ["t"], 1.0)
    assert client.closed
    with pytest.raises(SourceError, match="a:1 does not list its topics"):
        kafka_topics.topics(cluster, Deadline.after(1))


def test_files_for_tls_are_read_as_they_are_given(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("client", password="open")
    usual = tls_context({})
    assert usual.check_hostname and usual.verify_mode is ssl.CERT_REQUIRED
    own = {"ssl_cafile": str(tmp_path / "ca.pem"), "ssl_certfile": str(pair.certificate)}
    tls_context({**own, "ssl_keyfile": str(pair.key), "ssl_password": "open"})
    tls_context({"ssl_certfile": str(pair.both), "ssl_password": "open"})
    with pytest.raises(SourceError, match="a key that is locked wants its password"):
        tls_context({**own, "ssl_keyfile": str(pair.key)})
    with pytest.raises(SourceError, match="file of Kafka's authorities cannot be used"):
        tls_context({"ssl_cafile": str(pair.key)})
