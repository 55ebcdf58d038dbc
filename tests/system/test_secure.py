"""Servers that ask who we are: who gets in can do all, who does not is told why, and soon."""

import itertools
from pathlib import Path

import pytest

from consumers import doctor, wiring
from consumers.errors import ConsumerError, ServerUnavailable, SettingsError
from consumers.finder import Query
from consumers.index import ANY, Space
from consumers.qdrant_finder import QdrantFinder
from consumers.qdrant_index import QdrantIndex
from consumers.settings import Settings
from stream.batch import Partition
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import SinkError, SourceError
from stream.kafka_reader import KafkaReader, ReaderConfig
from stream.kafka_sink import KafkaDeadLetters, KafkaSink
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import await_kafka, ensure_topic, topics
from stream.sink import DeadLetter
from stream.source import Source
from tests.consumers.publishing import DIM, ITEMS, points
from tests.system.authority import Authority
from tests.system.guarded_kafka import KEY_PASSWORD, MECHANISM, PASSWORD, GuardedKafka
from tests.system.guarded_qdrant import KEY, READING_KEY, GuardedQdrant

pytestmark = pytest.mark.servers

WRONG = "not-the-password-4713"
SECRETS = (PASSWORD, KEY_PASSWORD, WRONG, KEY, READING_KEY)
SOON_S = 10.0
VALUES = [b"one", b"two", b"three"]

names = map("secure-{}".format, itertools.count())


def way_in(guarded: GuardedKafka, way: str) -> dict[str, object]:
    if way == "password":
        return guarded.over_sasl()
    if way == "certificate":
        return guarded.over_ssl()
    locked = guarded.locked_client
    return guarded.over_ssl(
        kafka_certificate=locked.certificate, kafka_key=locked.key, kafka_key_password=KEY_PASSWORD
    )


def read_all(source: Source, count: int) -> list[bytes]:
    found: list[bytes] = []
    deadline = Deadline.after(30)
    while len(found) < count and not deadline.passed:
        found += [value for batch in source.poll(100, 0.5) for value in batch.values]
    source.close()
    return found


# -- Kafka


@pytest.mark.parametrize("way", ["password", "certificate", "locked key"])
def test_all_that_speaks_kafka_is_let_in(guarded: GuardedKafka, way: str, tmp_path: Path) -> None:
    topic = next(names)
    settings = Settings.model_validate({**way_in(guarded, way), "topic": topic, "state": tmp_path})
    cluster = wiring.cluster(settings)
    assert ensure_topic(cluster, topic, Deadline.after(30))
    sink = KafkaSink(cluster, topic)
    sink.send(VALUES)
    sink.close()
    reader = KafkaReader(ReaderConfig(cluster, topic), {})
    assert set(reader.lag().values()) == {3}
    assert read_all(reader, 3) == VALUES
    source = KafkaSource(KafkaConfig(cluster, (topic,), topic), {}, SystemClock())
    assert read_all(source, 3) == VALUES
    letters = KafkaDeadLetters(cluster, topic)
    letters.put([DeadLetter(Partition(topic, 0), 1, b"{", "json", "got '{'", ())])
    letters.close()
    assert read_all(KafkaReader(ReaderConfig(cluster, topic), {}), 4) == [*VALUES, b"{"]
    finding = doctor.check(settings)["kafka"]
    assert finding["ok"], finding["said"]
    assert not [s for s in SECRETS if s in repr(settings) + repr(cluster) + repr(source)]


def refused(guarded: GuardedKafka, stranger: Authority, case: str) -> dict[str, object]:
    """Settings of a client that is not let in."""
    own = stranger.issue("client", "client.example")
    as_stranger = {"kafka_certificate": own.certificate, "kafka_key": own.key}
    no_certificate = {"kafka_certificate": None, "kafka_key": None}
    locked = guarded.locked_client
    still_locked = {"kafka_certificate": locked.certificate, "kafka_key": locked.key}
    return {
        "wrong password": lambda: guarded.over_sasl(kafka_password=WRONG),
        "unknown user": lambda: guarded.over_sasl(kafka_username="nobody"),
        "another mechanism": lambda: guarded.over_sasl(kafka_sasl_mechanism="SCRAM-SHA-256"),
        "no password asked": lambda: guarded.over_sasl(
            kafka=guarded.ssl,
            kafka_certificate=guarded.client.certificate,
            kafka_key=guarded.client.key,
        ),
        "a password asked": lambda: guarded.over_ssl(kafka=guarded.sasl),
        "wrong authority": lambda: guarded.over_sasl(kafka_ca=stranger.file),
        "no authority": lambda: guarded.over_sasl(kafka_ca=None),
        "another host": lambda: guarded.over_sasl(
            kafka=guarded.sasl.replace("127.0.0.1", "localhost")
        ),
        "authority is no file": lambda: guarded.over_sasl(kafka_ca=stranger.file.parent / "no"),
        "no certificate": lambda: guarded.over_ssl(**no_certificate),
        "a stranger's certificate": lambda: guarded.over_ssl(**as_stranger),
        "a stranger's key": lambda: guarded.over_ssl(kafka_key=own.key),
        "locked key": lambda: guarded.over_ssl(**still_locked),
        "wrong key password": lambda: guarded.over_ssl(**still_locked, kafka_key_password=WRONG),
        "plain on a TLS port": lambda: {"kafka": guarded.sasl},
        "TLS on a plain port": lambda: guarded.over_sasl(kafka=guarded.plain),
    }[case]()


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("wrong password", "refuses the user 'shop' by SCRAM-SHA-512"),
        ("unknown user", "refuses the user 'nobody'"),
        ("another mechanism", f"does not take the mechanism SCRAM-SHA-256.*offers {MECHANISM}"),
        ("no password asked", "does not take the mechanism.*offers none"),
        ("a password asked", "does not let in who brings no password"),
        ("wrong authority", "certificate is not trusted.*Is the CA file"),
        ("no authority", "certificate is not trusted"),
        ("another host", "certificate is not trusted: Hostname mismatch.*'localhost'"),
        ("authority is no file", "file of Kafka's authorities cannot be used: .*/no"),
        ("no certificate", "CERTIFICATE_REQUIRED.*give one"),
        ("a stranger's certificate", "ALERT_CERTIFICATE_UNKNOWN.*an authority that it trusts"),
        ("a stranger's key", "our certificate.*cannot be used.*belong together"),
        ("locked key", "our certificate.*cannot be used.*wants its password"),
        ("wrong key password", "our certificate.*cannot be used.*wants its password"),
        ("plain on a TLS port", "speaks TLS, and is asked without"),
        ("TLS on a plain port", "does not speak TLS"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    guarded: GuardedKafka, stranger: Authority, case: str, said: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {**refused(guarded, stranger, case), "state": tmp_path, "dead_letter_topic": "letters"}
    )
    cluster, soon = wiring.cluster(settings), Deadline.after(SOON_S)
    with pytest.raises(SourceError, match=said):
        topics(cluster, Deadline.after(30))
    with pytest.raises(SourceError, match=said):
        KafkaReader(ReaderConfig(cluster, "any"), {})
    with pytest.raises(SinkError, match=said):
        KafkaSink(cluster, "any")
    with pytest.raises(ServerUnavailable, match=said) as error:
        wiring.open_dead_letters(settings, kafka=True)
    finding = doctor.check(settings)["kafka"]
    assert not finding["ok"]
    assert not soon.passed
    assert not [s for s in SECRETS if s in finding["said"] + repr(error.value)]


def test_one_of_several_brokers_that_lets_us_in_is_enough(guarded: GuardedKafka) -> None:
    both = guarded.over_sasl(kafka=f"127.0.0.1:1,{guarded.plain},{guarded.sasl}")
    await_kafka(wiring.cluster(Settings.model_validate(both)), Deadline.after(5))


# -- Qdrant


def index_of(vault: GuardedQdrant, **other: object) -> QdrantIndex:
    index = wiring.open_index(Settings.model_validate(vault.settings(**other)))
    assert isinstance(index, QdrantIndex)
    return index


def finder_of(vault: GuardedQdrant, **other: object) -> QdrantFinder:
    settings = Settings.model_validate(vault.settings(**other))
    key, url = settings.qdrant_api_key, str(settings.qdrant)
    return QdrantFinder(url, api_key=key and key.get_secret_value(), ca=settings.qdrant_ca)


def test_a_key_writes_and_a_reading_key_only_searches(vault: GuardedQdrant) -> None:
    writer, reader = index_of(vault), index_of(vault, qdrant_api_key=READING_KEY)
    writer.create("secure-items", Space.ITEMS, DIM)
    batch = points(ITEMS, 3)
    writer.upsert("secure-items", Space.ITEMS, batch, epoch=1, sequence=1)
    vector = batch.vectors[0]
    expected = [found.id for found in writer.search("secure-items", vector, 5)]
    assert [found.id for found in reader.search("secure-items", vector, 5)] == expected
    finder = finder_of(vault, qdrant_api_key=READING_KEY)
    [found] = finder.find("secure-items", [Query(vector, 5, ANY)], Deadline.after(5))
    assert [name for name, _ in found] == expected
    with pytest.raises(ServerUnavailable, match="the API key may not do this") as error:
        reader.upsert("secure-items", Space.ITEMS, batch, epoch=1, sequence=2)
    told = str(error.value) + repr(writer) + repr(vars(writer)) + repr(finder) + repr(vars(reader))
    assert not [s for s in SECRETS if s in told]
    for opened in (writer, reader, finder):
        opened.close()


@pytest.mark.parametrize("speak", [index_of, finder_of])
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("wrong key", "Invalid API key.*GOAT_QDRANT_API_KEY"),
        ("no key", "Must provide an API key.*GOAT_QDRANT_API_KEY"),
        ("wrong authority", "its certificate is not trusted: is GOAT_QDRANT_CA"),
        ("no authority", "its certificate is not trusted: is GOAT_QDRANT_CA"),
        ("authority is no file", "file of Qdrant's authorities cannot be used"),
        ("plain on a TLS port", "is it running"),
    ],
)
def test_what_qdrant_refuses_is_told(
    vault: GuardedQdrant, stranger: Authority, speak: object, case: str, said: str
) -> None:
    other: dict[str, object] = {
        "wrong key": {"qdrant_api_key": WRONG},
        "no key": {"qdrant_api_key": None},
        "wrong authority": {"qdrant_ca": stranger.file},
        "no authority": {"qdrant_ca": None},
        "authority is no file": {"qdrant_ca": stranger.file.parent / "no"},
        "plain on a TLS port": {"qdrant": vault.url.replace("https:", "http:")},
    }[case]
    soon = Deadline.after(SOON_S)
    assert callable(speak)
    with pytest.raises(ConsumerError, match=said) as error:
        speak(vault, **other)
    assert isinstance(error.value, (ServerUnavailable, SettingsError))
    assert not soon.passed
    assert not [s for s in SECRETS if s in str(error.value)]
