import itertools
import os
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from typer.testing import CliRunner

from consumers.cli import app
from consumers.feed import key_of

_names = map("feed-{}-{}".format, itertools.repeat(os.getpid()), itertools.count())


def consumed(kafka: str, topic: str, n: int) -> dict[bytes, bytes | None]:
    """Key by message, read by another client library."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"{topic}-reader",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    found: dict[bytes, bytes | None] = {}
    deadline = time.monotonic() + 60
    while len(found) < n and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            found[message.value() or b""] = message.key()
    consumer.close()
    return found


def test_a_file_is_replayed_into_a_topic_keyed_by_user(kafka: str, tmp_path: Path) -> None:
    lines = [b'{"type":"click","user_id":"u%d","n":%d}' % (i % 7, i) for i in range(50)]
    lines.append(b"not even JSON")
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    topic = next(_names)
    words = ["replay", "--events", path, "--kafka", kafka, "--topic", topic, "--rate", 5_000]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    found = consumed(kafka, topic, len(lines))
    assert set(found) == set(lines)
    assert all(found[line] == b"u%d" % (i % 7) for i, line in enumerate(lines[:-1]))
    assert found[b"not even JSON"] is None


def test_the_simulator_feeds_a_topic(kafka: str) -> None:
    topic = next(_names)
    words = ["simulate", "--limit", "200", "--kafka", kafka, "--topic", topic]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert len(consumed(kafka, topic, 200)) == 200


@pytest.mark.parametrize("message", [b"", b"[]", b'{"user_id": 7}', b"\xff", b"{}"])
def test_what_has_no_user_has_no_key(message: bytes) -> None:
    assert key_of(message) is None
