"""Several members of one group on a real broker: partitions move, and their state with them.

One joins, one is killed, one sleeps for longer than the group waits and wakes up again, one leaves
in order; versions go live in between. In the end every user's vector is what an undisturbed program
makes of the topic, and every event of every partition has had its effect once.
"""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from consumers.homes import FOLDER
from consumers.local_qdrant import QdrantAddress
from consumers.manifest import Manifest
from consumers.manifest_steps import Opened
from consumers.publications import Publications
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import SnapshotCorrupt
from stream.snapshot import SnapshotStore
from tests.system.conftest import Goat, MakeTopic, Produce, settings_of
from tests.system.test_kill import SEED, check_vectors, disturbed, wait, write_version

PARTITIONS = 4
SESSION_S = 6
WITHIN_S = 90


@pytest.fixture
def settings(kafka: str, qdrant: QdrantAddress, make_topic: MakeTopic, tmp_path: Path) -> Settings:
    topic = make_topic(PARTITIONS)
    given = settings_of(kafka, qdrant, topic, tmp_path / "state", lateness_s=600, batch=50)
    return Settings(**given, collection=topic, session_timeout_s=SESSION_S)  # type: ignore[arg-type]


def kept(settings: Settings) -> dict[str, tuple[int, int]]:
    """Of each partition that somebody has saved: by which writer, and up to where."""
    found = {}
    for folder in sorted((settings.state / FOLDER).glob(f"{settings.topic}-*")):
        for generation in sorted(folder.iterdir(), reverse=True):
            try:
                saved = SnapshotStore(generation, SystemClock()).newest()
            except (SnapshotCorrupt, FileNotFoundError):
                continue  # being deleted by its successor
            if saved is not None:
                found[folder.name] = int(generation.name), sum(saved.positions.values())
                break
    return found


def moved(settings: Settings, before: dict[str, tuple[int, int]]) -> Callable[[], bool]:
    """Whether two partitions or more have been saved by another writer since."""

    def asked() -> bool:
        now = kept(settings)  # one that is just being replaced may be missing
        return sum(now.get(p, (0, 0))[0] > w for p, (w, _) in before.items()) >= 2

    return asked


def until(what: Callable[[], bool], nap: Callable[[float], None]) -> None:
    deadline = Deadline.after(WITHIN_S)
    while not what():
        assert not deadline.passed
        nap(0.1)


def published(settings: Settings) -> Publications:
    with closing(Manifest(settings.manifest, SystemClock())) as manifest:
        found = Publications()
        found.advance(manifest.lines)
    return found


def someone(messages: Sequence[bytes]) -> str:
    """A user with many events, and none of them an erasure."""
    said = [json.loads(m) for m in messages if b"broken" not in m]
    gone = {m["user_id"] for m in said if m["type"] == "erase_user"}
    counts = Counter(m["user_id"] for m in said if m.get("user_id", "") not in {"", *gone})
    return str(counts.most_common(1)[0][0])


@pytest.mark.slow
def test_partitions_move_and_their_state_with_them(
    settings: Settings, produce: Produce, goat: Goat, tmp_path: Path
) -> None:
    messages = disturbed(np.random.default_rng(SEED))
    cuts = np.linspace(0, len(messages), 6).astype(int).tolist()
    parts = [messages[start:stop] for start, stop in pairwise(cuts)]
    given = settings.model_dump(exclude_unset=True)
    sent = 0

    def member() -> "subprocess.Popen[bytes]":
        return goat("--log", "json", "member", **given)

    whole = goat("--log", "json", "ingest", "--members", "--quiet", **given)

    def nap(seconds: float) -> None:
        wait(whole, seconds)
        assert whole.poll() is None, said()

    def said() -> str:
        return (tmp_path / "goat.log").read_text()[-4_000:]

    def send(part: Sequence[bytes]) -> None:
        nonlocal sent
        produce(settings.topic, part)
        sent += len(part)

    def all_kept() -> bool:
        return sum(at for _, at in kept(settings).values()) == sent

    def live(version: int) -> Callable[[], bool]:
        return lambda: (now := published(settings).live) is not None and now.version == version

    first = member()
    send(parts[0])
    until(all_kept, nap)
    until(lambda: SnapshotStore(settings.graph_dir, SystemClock()).latest() > 0, nap)
    write_version(settings.state)
    until(live(1), nap)
    before = kept(settings)

    second = member()  # joins: some go to it, saved
    until(moved(settings, before), nap)
    send(parts[1])
    until(all_kept, nap)

    first.send_signal(signal.SIGKILL)  # its partitions go on when the group gives it up
    assert first.wait(10) == -signal.SIGKILL
    send(parts[2])
    until(all_kept, nap)

    third = member()
    before = kept(settings)
    until(moved(settings, before), nap)
    second.send_signal(signal.SIGSTOP)  # for longer than the group waits
    send(parts[3])
    until(all_kept, nap)  # by the third alone
    second.send_signal(signal.SIGCONT)
    write_version(settings.state)
    until(live(2), nap)

    third.send_signal(signal.SIGTERM)  # leaves in order
    assert third.wait(60) == 0, said()
    send(parts[4])
    until(all_kept, nap)

    user = someone(messages)  # erased while all run
    assert goat("erase", user, **given).wait(120) == 0, said()
    sent += PARTITIONS  # one event each
    until(all_kept, nap)
    for process in (second, whole):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, said()

    assert check_vectors(settings, version=2) > 50
    with closing(Manifest(settings.manifest, SystemClock())) as manifest:
        takings = [x.body.lane for x in manifest.lines if isinstance(x.body, Opened)]
    assert sum(bool(lane) for lane in takings) >= PARTITIONS + 2 + 2 + 2
    assert len(kept(settings)) == PARTITIONS
