"""A broker that dies under a fast path, and comes back with all of its log or without its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.clock import SystemClock
from stream.errors import LogShortened, SourceError
from stream.snapshot import SnapshotStore
from tests.faults.topic import disturbed
from tests.system.broker import Broker, broker
from tests.system.faulty_topic import (
    FaultyTopic,
    Message,
    accounted,
    impatient,
    judge,
    step_until,
    verdict,
)

pytestmark = pytest.mark.servers
MESSAGES = 900
PARTITIONS = 3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, stall_after_s=300.0)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("mortal")) as made:
        yield made


def messages(seed: int) -> list[Message]:
    return [(n, m) for n, part in enumerate(disturbed(seed, MESSAGES)) for m in part]


@pytest.mark.slow
def test_a_broker_killed_in_the_midst_changes_nothing(mortal: Broker, tmp_path: Path) -> None:
    """While it reads, and while it is down itself."""
    topic = FaultyTopic(mortal.bootstrap, "killed", tmp_path)
    stream = messages(20)
    topic.make(PARTITIONS)
    topic.send(stream[: len(stream) // 2])
    with topic.ingesting() as ingestor:
        step_until(ingestor, lambda: ingestor.pipeline.tally.events_in >= 200)
        mortal.kill()
        for _ in range(10):
            ingestor.step()  # what it has been given already, and then nothing
        mortal.revive()
        topic.send(stream[len(stream) // 2 :])
        goal = len(stream) - 100
        step_until(ingestor, lambda: ingestor.pipeline.tally.events_in >= goal)
    mortal.kill()
    mortal.revive()
    pipeline = topic.ingest(len(stream) - ingestor.pipeline.tally.events_in)
    assert accounted(pipeline)
    verdict(pipeline, judge(stream, topic.settings))


@pytest.mark.slow
@pytest.mark.parametrize("refilled", [0, 400])
def test_a_log_that_has_lost_its_end_is_not_read_on(
    mortal: Broker, tmp_path: Path, refilled: int
) -> None:
    """Neither where it ends before our place, nor where others have come to be there."""
    topic = FaultyTopic(mortal.bootstrap, f"shortened-{refilled}", tmp_path)
    stream = [(0, m) for n, m in messages(21) if n == 0]
    topic.make(1)
    for start in range(0, len(stream), 20):  # a batch of the log each
        topic.send(stream[start : start + 20])
    topic.ingest(len(stream))
    mortal.kill()
    shorten(mortal.server.folder / "data" / f"{topic.name}-0")
    mortal.revive()
    left = len(topic.left(0))
    assert 0 < left < len(stream)
    topic.send([(0, m) for _, m in messages(22)[:refilled]])
    with (
        pytest.raises(SourceError, match=rf"{len(stream)}, {left}\)") as stopped,
        topic.ingesting() as ingestor,
    ):
        step_until(ingestor, lambda: False)
    assert isinstance(stopped.value, LogShortened)
    state = SnapshotStore(topic.settings.graph_dir, SystemClock()).load()
    assert state is not None
    assert state.graph.edges_by_name() == judge(stream, topic.settings).edges()


def shorten(folder: Path) -> None:
    """As a machine does whose disk has lost its newest pages."""
    (log,) = folder.glob("*.log")
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])
    for index in folder.glob("*index"):
        index.unlink()
    for clean in folder.parent.glob(".kafka_cleanshutdown"):
        clean.unlink()
