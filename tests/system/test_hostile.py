"""1,000 hostile messages among 10,000 good ones: the good ones do not notice.

A tenth of the hostile ones are made by hand, with the reason that is expected; the others by
hypothesis, always the same ones. All go through a real topic, the source, the pipeline, and come
back in the topic of dead letters.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from consumers import wiring
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.settings import Settings
from consumers.tally import LATE
from consumers.versions import Versions
from stream.batch import Headers, Partition, RecordBatch
from stream.clock import ManualClock, SystemClock
from stream.codec import Codec, Limits, decode_one
from stream.errors import EventRejected
from stream.graph import Graph
from stream.kafka_sink import LETTER_BYTES
from stream.ordering import Orderer
from stream.simulator import Simulator, SimulatorConfig
from stream.sink import DeadLetter
from tests.producer import producer_of

GOOD, HOSTILE = 10_000, 1_000
PARTITIONS = 2
TEXT_DIM = 32
NOW_US = 1_800_000_000_000_000  # 2027: what is ahead of this is ahead of any clock before
LONG = 1_300_000

CLICK: Mapping[str, Any] = {
    "type": "click",
    "event_id": "h",
    "occurred_at": "2026-01-01T00:00:00Z",
    "user_id": "user-1",
    "item_id": "item-1",
}
ITEM: Mapping[str, Any] = {
    "type": "item",
    "event_id": "h",
    "occurred_at": "2026-01-01T00:00:00Z",
    "item_id": "item-1",
}


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, and why it must come back; no reason: it must not."""

    value: bytes
    reason: str | None = None
    headers: Headers = ()


def changed(event: Mapping[str, Any], **fields: Any) -> bytes:
    return json.dumps({**event, **fields}).encode()


def without(event: Mapping[str, Any], field: str) -> bytes:
    return json.dumps({k: v for k, v in event.items() if k != field}).encode()


def binary(**attributes: str) -> Headers:
    """Headers of a CloudEvent in binary mode, with odd values."""
    whole = {"specversion": "1.0", "id": "h", "source": "/s", "type": "click", **attributes}
    return tuple((f"ce_{name}", value.encode()) for name, value in whole.items())


def by_hand(good: list[bytes]) -> list[Message]:
    """A hundred messages, each with its reason."""
    vector = {"text": [0.5] * TEXT_DIM}
    deep = b'{"type":"click","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    stolen = [json.loads(message) for message in good[500:540]]
    once = {
        b"": "empty",
        b" ": "invalid_json",
        b"null": "not_an_object",
        b"[]": "not_an_object",
        b'"click"': "not_an_object",
        b"\xff\xfe{}": "invalid_utf8",
        b"{}": "unknown_type",
        b"{": "invalid_json",
        b"}{": "invalid_json",
        changed(CLICK) + changed(CLICK): "invalid_json",
        changed(CLICK) + b"\n" + changed(CLICK): "invalid_json",
        changed(CLICK)[:-1]: "invalid_json",
        changed(CLICK).replace(b"user-1", b"user-\xc3\x28"): "invalid_utf8",
        changed(CLICK).replace(b"user-1", b"user-\n1"): "invalid_json",
        changed(CLICK).replace(b"user-1", b"\\ud800"): "invalid_json",
        changed(CLICK, value=1).replace(b": 1}", b": NaN}"): "not_finite",
        changed(CLICK, value=1).replace(b": 1}", b": 1e999}"): "not_finite",
        deep: "invalid_json",
        b'{"type":"click","event_id":"' + b"x" * LONG + b'"}': "too_large",
        b"\x00" * LONG: "too_large",
        changed(CLICK, type="clack"): "unknown_type",
        changed(CLICK, type=None): "unknown_type",
        changed(CLICK, type=["click"]): "unknown_type",
        changed(CLICK, schema_version=2): "unknown_version",
        changed(CLICK, schema_version=True): "unknown_version",
        changed(CLICK, event_id=7): "invalid_id",
        changed(CLICK, user_id=""): "invalid_id",
        changed(CLICK, user_id="a\u0000b"): "invalid_id",
        changed(CLICK, item_id="x" * 257): "invalid_id",
        changed(CLICK, item_id={"$ne": None}): "invalid_id",
        changed(CLICK, kind="steal"): "invalid_field",
        changed(CLICK, position=-1): "out_of_range",
        changed(CLICK, position=1.5): "invalid_field",
        changed(CLICK, value=1e13): "out_of_range",
        changed(CLICK, occurred_at="yesterday"): "invalid_time",
        changed(CLICK, occurred_at=1_767_225_600): "invalid_time",
        changed(CLICK, occurred_at="2026-02-30T00:00:00Z"): "invalid_time",
        changed(CLICK, occurred_at="2026-01-01T00:00:00"): "invalid_time",
        changed(CLICK, occurred_at="1969-12-31T23:59:59Z"): "time_before_1970",
        changed(CLICK, occurred_at="9999-12-31T23:59:59Z"): "time_ahead",
        changed(ITEM, vectors={"text": [0.5] * 31}): "wrong_dimension",
        changed(ITEM, vectors={"text": []}): "invalid_vector",
        changed(ITEM, vectors={"text": ["0.5"] * TEXT_DIM}): "invalid_vector",
        changed(ITEM, vectors=vector | {"x": [1e7]}): "out_of_range",
        changed(ITEM, title="t" * 1_001): "too_long",
        changed(ITEM, price=-1): "out_of_range",
        changed({**CLICK, "specversion": "1.0"}): "invalid_envelope",
        **{without(CLICK, field): "missing_field" for field in ("event_id", "user_id", "item_id")},
    }
    return [
        *(Message(value, reason) for value, reason in once.items()),
        *(Message(changed(CLICK), "envelope_mismatch", binary(type="com.else")) for _ in range(3)),
        *(
            # Came in days ago, had it been on time; only a new id tells it from a repetition.
            Message(changed(CLICK, event_id=f"late-{n}", occurred_at="2025-12-01T00:00:00Z"), LATE)
            for n in range(8)
        ),
        # Broken, under the ids of good events that are still to come.
        *(Message(changed(event, occurred_at=None), "invalid_time") for event in stolen),
    ]


@st.composite
def mutated(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """A good message with fields or bytes changed, or no message at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    event = json.loads(good[draw(st.integers(0, len(good) - 1))])
    odd = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
        | st.lists(st.none(), max_size=2) | st.sampled_from(["", "\x00", "x" * 257, 1e300, {}])
    )  # fmt: skip
    for field in draw(st.lists(st.sampled_from(sorted(event)), min_size=1, max_size=2)):
        event[field] = draw(odd)
    value = json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.binary(max_size=3)) + value[at + draw(st.integers(0, 2)) :]
    return value


def by_hypothesis(good: list[bytes], count: int) -> list[Message]:
    """So many distinct messages that the contract refuses, the same ones at every call."""
    found: dict[bytes, Message] = {}

    @settings(
        max_examples=4 * count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(good))
    def gather(value: bytes) -> None:
        if len(found) == count:
            return
        try:
            decode_one(value, Limits(vector_dims={"text": TEXT_DIM}), NOW_US)
        except EventRejected as error:
            found[value] = Message(value, error.reason)

    gather()
    assert len(found) == count
    return list(found.values())


def partition_of(message: bytes) -> int:
    return crc32(json.loads(message).get("user_id", "").encode()) % PARTITIONS


def placed(good: list[bytes], rng: np.random.Generator) -> list[list[Message]]:
    """What each partition is sent: good ones in order, hostile ones in between."""
    hand = by_hand(good)
    assert len(hand) >= HOSTILE // 10
    hostile = hand + by_hypothesis(good, HOSTILE - len(hand))
    # Late is what comes after others; stolen ids are used before their owners come.
    early = {id(m): 400 for m in hand[-40:]} | {id(m): 9_000 for m in hand if m.reason == LATE}
    at = [early.get(id(m), int(rng.integers(0, GOOD))) for m in hostile]
    everything = [(n, 1, Message(value)) for n, value in enumerate(good)]
    everything += [(n, 0, message) for n, message in zip(at, hostile, strict=True)]
    partitions: list[list[Message]] = [[] for _ in range(PARTITIONS)]
    for _, mine, message in sorted(everything, key=lambda entry: entry[:2]):
        number = partition_of(message.value) if mine else crc32(message.value) % PARTITIONS
        partitions[number].append(message)
    return partitions


def alone(partitions: list[list[Message]]) -> Graph:
    """The graph of the good messages, had there been no others."""
    codec, orderer, graph = Codec(Limits(), ManualClock(NOW_US)), Orderer(), Graph()
    for number, messages in enumerate(partitions):
        values = [message.value for message in messages if message.reason is None]
        offsets = np.arange(len(values))
        batch = RecordBatch(Partition("alone", number), offsets, values, len(values))
        decoded = codec.decode(batch)
        graph.apply(decoded.events, orderer.admit(decoded.events).keep)
    return graph


@pytest.mark.slow
def test_good_messages_do_not_notice_hostile_ones(
    kafka: str,
    make_topic: Callable[..., str],
    read_letters: Callable[[str], list[DeadLetter]],
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    good = list(Simulator(SimulatorConfig(GOOD, users=300, items=200), rng))
    partitions = placed(good, rng)
    topic = make_topic(PARTITIONS, max_message_bytes="2000000")
    producer = producer_of(kafka, message_max_bytes=2_000_000)
    for number, messages in enumerate(partitions):
        for message in messages:
            value = message.value or None  # a tombstone
            producer.produce(topic, value, partition=number, headers=list(message.headers))
            producer.poll(0)
    assert producer.flush(60) == 0

    ours = Settings(
        kafka=kafka, topic=topic, dead_letter_topic=f"{topic}.dead", group=topic,
        state=tmp_path, text_dim=TEXT_DIM,
    )  # fmt: skip
    with wiring.opened(ours, Inputs(), publish=False) as parts:
        ingestor = Ingestor(
            parts.pipeline, parts.source, Versions(ours.models_dir), SystemClock(), Stop(),
            limit=GOOD + HOSTILE,
        )  # fmt: skip
        ingestor.run()
        tally, graph = parts.pipeline.tally, parts.pipeline.state.graph

    expected = {
        (number, offset): message
        for number, messages in enumerate(partitions)
        for offset, message in enumerate(messages)
        if message.reason is not None
    }
    reasons = Counter(str(message.reason) for message in expected.values())
    assert tally.balanced
    assert tally.events_in == GOOD + HOSTILE
    assert tally.applied == GOOD
    assert tally.dead_letters + tally.late == HOSTILE
    assert tally.reasons == reasons
    assert len(reasons) >= 18
    assert graph.edges_by_name() == alone(partitions).edges_by_name()

    letters = read_letters(ours.dead_letter_topic)
    assert len(letters) == HOSTILE
    assert {letter.partition.topic for letter in letters} == {topic}
    found = {(letter.partition.number, letter.offset): letter for letter in letters}
    assert found.keys() == expected.keys()
    for where, letter in found.items():
        message = expected[where]
        assert letter.reason == message.reason
        assert letter.detail
        assert letter.headers == message.headers
        assert letter.value == message.value[:LETTER_BYTES]
