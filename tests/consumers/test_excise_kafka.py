"""Excising and making again over a topic: read from where the state began, or refused loudly."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers import excising, feed, programs, rebuild_verbs
from consumers.errors import NotRepeatable
from consumers.inputs import Inputs
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.excision import Rule
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.snapshot import SnapshotStore
from tests.consumers.ledgers import settings, told

_names = map("excise-{}-{}".format, itertools.repeat(os.getpid()), itertools.count())
STDOUT = Path("-")
MESSAGES = 1_200
EVERYBODY_1 = Rule("user-1*", 0, 2**60)


def filled(kafka: str, root: Path, partitions: int = 1) -> Settings:
    """A state of a topic, with a version learned and published."""
    topic = next(_names)
    made = settings(
        root / "state", kafka=kafka, topic=topic, group=topic, dead_letter_topic=f"{topic}.dead"
    )
    cluster = KafkaCluster(kafka, {})
    ensure_topic(cluster, topic, Deadline.after(30), partitions=partitions)
    assert feed.send(made, Inputs(None, "simulator", {}, None, MESSAGES), to=None, rate=None) == 0
    assert programs.ingest(made, limit=MESSAGES, json_file=None, quiet=True) == 0
    assert programs.finetune(made, once=True) == 0
    assert programs.publish(made) == 0
    return made


def view(made: Settings) -> Any:
    opened = SnapshotStore(made.graph_dir, SystemClock()).open_view()
    assert opened is not None
    return opened


def test_a_topic_is_read_again_from_where_the_state_began(
    kafka: str, tmp_path: Path, capsys: Any
) -> None:
    made = filled(kafka, tmp_path)
    capsys.readouterr()
    assert rebuild_verbs.rebuild(made, 1, Inputs(), from_events=True, json_file=STDOUT) == 0
    assert told(capsys)["equal"]
    positions = view(made).info.positions
    assert excising.excise(made, EVERYBODY_1, Inputs(), json_file=STDOUT) == 0
    figures = told(capsys)
    assert (figures["how"], figures["version"]) == ("replayed", 2)
    assert figures["events"] > 0
    opened = view(made)
    assert opened.info.positions == positions
    assert opened.numbering == 1
    assert not [name for name in opened.users.names if name.startswith("user-1")]
    assert rebuild_verbs.rebuild(made, 2, Inputs(), from_events=True, json_file=STDOUT) == 0
    assert told(capsys)["equal"]


def test_several_partitions_are_read_again_to_the_same_offsets(
    kafka: str, tmp_path: Path, capsys: Any
) -> None:
    made = filled(kafka, tmp_path, partitions=3)
    positions = view(made).info.positions
    assert len(positions) == 3
    capsys.readouterr()
    assert excising.excise(made, EVERYBODY_1, Inputs(), json_file=STDOUT) == 0
    assert json.loads(capsys.readouterr().out)["how"] == "replayed"
    assert view(made).info.positions == positions


def test_where_the_beginning_is_deleted_nothing_is_changed(
    kafka: str, tmp_path: Path, capsys: Any
) -> None:
    made = filled(kafka, tmp_path)
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    for done in admin.delete_records([TopicPartition(made.topic, 0, 50)]).values():
        done.result(30)
    before = made.manifest.read_bytes(), view(made).info.sha256
    with pytest.raises(NotRepeatable, match="--in-place"):
        excising.excise(made, EVERYBODY_1, Inputs())
    assert (made.manifest.read_bytes(), view(made).info.sha256) == before
    capsys.readouterr()
    assert excising.excise(made, EVERYBODY_1, Inputs(), in_place=True, json_file=STDOUT) == 0
    assert told(capsys)["how"] == "in place"
