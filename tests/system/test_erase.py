"""A user erased through Kafka while the fast path runs, with history in every store there is."""

import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from consumers import finding, inventory
from consumers.finding import find
from consumers.index import Space
from consumers.local_qdrant import QdrantAddress
from consumers.receipt import digest
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.snapshot import SnapshotStore
from tests.consumers.erasing_parts import describe, history, leave_traces, write_version
from tests.system.conftest import settings_of

Goat = Callable[..., "subprocess.Popen[bytes]"]
Produce = Callable[[str, Sequence[bytes]], None]

USER, OTHER = "user-1", "user-12"
COLLECTION = "erase"
PARTITIONS = 2
PATIENCE_S = 60.0


def eventually(what: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Ask until it is so; a process that ends meanwhile ends the wait."""
    until = monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, f"goat ended with {process.returncode}"
        assert monotonic() < until, "it did not happen"


def points(settings: Settings, user: str) -> dict[str, bool]:
    """Whether a user has a point in the live collection, in the one before, in those filled."""
    with inventory.vectors(settings) as index:
        assert index is not None
        found = inventory.collections(settings, index, SystemClock())
        return {
            place: any(index.fetch(name, Space.USERS, [user])[0] for name in names)
            for place, names in found.items()
        }


def users_of(state: Path) -> Sequence[str]:
    with closing(SnapshotStore(state / "graph", SystemClock())) as store:
        opened = store.open_view()
    assert opened is not None
    return opened.users.names


@pytest.fixture
def given(
    kafka: str, qdrant: QdrantAddress, make_topic: Callable[..., str], tmp_path: Path
) -> dict[str, object]:
    """Settings of the programs."""
    topic = make_topic(PARTITIONS)
    return settings_of(kafka, qdrant, topic, tmp_path / "state", collection=COLLECTION)


@pytest.mark.slow
def test_a_user_with_history_in_every_store_is_erased_while_the_stream_goes_on(
    given: dict[str, object], produce: Produce, goat: Goat, tmp_path: Path
) -> None:
    topic, state = str(given["topic"]), tmp_path / "state"
    settings = Settings.model_validate(given)
    messages = history([USER, OTHER])
    # What campaigns are comes first: nothing orders it before what users do in another partition.
    told = [message for message in messages if b'"user_id"' not in message]
    for some in (told, [message for message in messages if message not in told]):
        produce(topic, some)
        assert goat("ingest", "--quiet", "--limit", len(some), **given).wait(120) == 0
    write_version(settings)
    running = goat("ingest", "--quiet", **given)
    eventually(lambda: points(settings, USER)[inventory.LIVE], running)
    write_version(settings, f"most of it: {USER}")
    eventually(lambda: points(settings, USER)[inventory.PREVIOUS], running)
    describe(settings, USER, OTHER)
    leave_traces(settings, USER)

    file = tmp_path / "receipt.json"
    assert goat("erase", USER, "--receipt", file, "--quiet", **given).wait(120) == 0

    told = json.loads(file.read_text())
    rows = {row["place"]: row for row in told["rows"]}
    empty = {place for place, row in rows.items() if not row["before"]}
    assert empty == {finding.SNAPSHOTS, finding.OTHER, inventory.FILLING}
    assert {row["after"] for row in rows.values()} == {0}
    assert told["clean"] and told["search"]["found"] == []
    assert told["who"] == digest(told["salt"], USER)
    assert USER not in file.read_text()
    assert told["through"] == f"topic {topic}, 2 partitions, applied by the program that runs"
    assert {topic, f"{topic}.dead"} <= told["topics"].keys()
    assert find(state, USER).hits == []
    assert not any(points(settings, USER).values())
    # Of the other nothing is gone, and the program that ran has noticed nothing.
    assert points(settings, OTHER)[inventory.LIVE] and points(settings, OTHER)[inventory.PREVIOUS]
    assert finding.NAMES in find(state, OTHER).rows()
    assert running.poll() is None

    # Neither what is delivered again nor a replay of the whole topic brings the user back.
    produce(topic, [one for one in messages if USER.encode() + b":" in one])
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    again = len(messages) + PARTITIONS
    other = {"state": tmp_path / "again", "group": f"{topic}-again", "collection": "erase-again"}
    assert goat("ingest", "--quiet", "--limit", again, **{**given, **other}).wait(120) == 0
    for folder in (state, tmp_path / "again"):
        names = users_of(folder)
        assert USER not in names and OTHER in names
