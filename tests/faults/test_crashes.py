"""Killed at every mark of the source, a run comes to what the oracle says, and nothing goes back.

The marks are data of the modules that own them: a step that is added there is a case here.
`make test-faults` takes twenty streams a mark, and the tests beside everything else one.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from consumers.edge_index import EdgeIndex
from consumers.index import Space
from consumers.retraining import ROLLBACKS
from consumers.steps import Back, Going
from model.version import Written
from stream.snapshot import Step
from tests.faults.conftest import Nursery
from tests.faults.judged import events_before, judge, topic, verdict
from tests.faults.nursery import WRITE
from tests.faults.topic import erasure, partition_of

SEEDS = int(os.environ.get("GOAT_FAULTS", "1"))
MARKS = [f"{type(s).__name__}.{s.name}" for steps in (Step, Going, Written) for s in steps]
SEVERAL = {"Step.SEGMENTS": 120, "Written.FILES": 3, WRITE: 40}  # reports of a mark in a run
KILLS = 3


class Case:
    """One stream, and the programs that work on it one after the other."""

    def __init__(self, nursery: Nursery, folder: Path, mark: str, seed: int) -> None:
        self._nursery = nursery
        self.state = folder / "state"
        self.state.mkdir()
        self._file = folder / "messages.json"
        self._file.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in topic(seed)]))
        self._rng = np.random.default_rng([seed, zlib.crc32(mark.encode())])
        self._mark = mark
        self.kills = 0

    def ingest(self, *, armed: bool, limit: int | None = None) -> None:
        self._run("ingest", armed=armed, limit=limit, messages=str(self._file))

    def finetune(self, versions: int) -> None:
        """Until there are so many versions; the first try may be killed."""
        self._run("finetune", armed=True)
        if len(list((self.state / "models").glob("0*"))) < versions:
            self._run("finetune", armed=False)

    def _run(self, program: str, *, armed: bool, **more: object) -> None:
        """Armed, it dies at the mark, if it comes to pass it often enough."""
        most = SEVERAL.get(self._mark, 6 if self._mark.startswith("Step") else 1)
        occurrence = int(self._rng.integers(1, most + 1))
        mark = self._mark if armed else None
        status = self._nursery.run(self.state, program, mark=mark, occurrence=occurrence, **more)
        self.kills += status < 0


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("mark", [*MARKS, WRITE])
def test_a_kill_at_any_mark_changes_nothing(
    nursery: Nursery,
    folder: Path,
    record_property: Callable[[str, object], None],
    mark: str,
    seed: int,
) -> None:
    case = Case(nursery, folder, mark, seed)
    third = sum(map(len, topic(seed))) // 3
    case.ingest(armed=True, limit=third)
    case.ingest(armed=False, limit=third // 2)
    case.finetune(versions=1)
    case.ingest(armed=True, limit=third)
    case.finetune(versions=2)
    for _ in range(KILLS):
        case.ingest(armed=True)
    case.ingest(armed=False)
    found = verdict(case.state, seed)
    record_property("faults", {f"killed at {mark}": case.kills})
    record_property("found", vars(found))
    assert not found, vars(found)
    assert case.kills, f"{mark} was never passed"


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("mark", [*(f"Back.{step.name}" for step in Back), "never"])
def test_readers_return_to_no_earlier_event(
    nursery: Nursery, folder: Path, mark: str, again: bool
) -> None:
    """In the life in which the version to be left was shown, or in another; killed at any step."""
    state, file = folder / "state", folder / "messages.json"
    state.mkdir()
    file.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in topic(0)]))
    whole = sum(map(len, topic(0)))
    more = {"messages": str(file), "mark": mark, "occurrence": 1}
    assert nursery.run(state, "ingest", **more, limit=whole // 2) == 0
    assert nursery.run(state, "finetune") == 0
    assert nursery.run(state, "ingest", **more, limit=whole // 8) == 0
    assert nursery.run(state, "finetune") == 0
    if again:
        assert nursery.run(state, "ingest", **more, limit=whole // 8) == 0
    killed = nursery.run(state, "ingest", **more, back_after=whole * 25 // 32)
    assert killed == (0 if mark == "never" else -9)
    assert nursery.run(state, "ingest", messages=str(file)) == 0
    notes = (state / "notes").read_text().splitlines()
    flips = [json.loads(note)["flip"] for note in notes if "flip" in note]
    assert flips[:3] == ["t-users-1", "t-users-2", "t-users-1"][: len(flips)]
    assert flips[-1] == "t-users-1"
    found = verdict(state, 0, events_before(0))
    assert not found, vars(found)
    assert not list((state / ROLLBACKS).glob("*"))


@pytest.mark.parametrize("commits", range(30, 38))
def test_a_kill_while_it_catches_up_leaves_nobody_behind(
    nursery: Nursery, folder: Path, commits: int
) -> None:
    """Saved on the way to where readers are: what was touched is not touched again, and written."""
    state, file = folder / "state", folder / "messages.json"
    state.mkdir()
    file.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in topic(0)]))
    most = sum(map(len, topic(0))) - 450  # few users come again after that
    assert nursery.run(state, "ingest", messages=str(file), limit=most) == 0
    assert nursery.run(state, "finetune") == 0
    # Before a write of vectors whose offsets are on the disk already.
    before = {"mark": WRITE, "occurrence": 41, "every_s": 100.0}
    assert nursery.run(state, "ingest", messages=str(file), **before) < 0
    # Then in smaller batches, saved after each, so that it ends within the one of before.
    saved = {"mark": "Step.OFFSETS", "occurrence": commits, "every_s": 0.01, "batch": 7}
    assert nursery.run(state, "ingest", messages=str(file), **saved) < 0
    assert nursery.run(state, "ingest", messages=str(file)) == 0
    found = verdict(state, 0)
    assert not found, vars(found)


def test_who_is_gone_while_it_catches_up_is_buried(nursery: Nursery, folder: Path) -> None:
    """As above, of an erased user and a removed item, whom no later event would touch."""
    state, parts = folder / "state", [list(part) for part in topic(0)]
    state.mkdir()
    at = json.loads(parts[0][-1])["occurred_at"]
    item, user = (
        next(iter(sorted(some)))
        for some in (
            judge(0).items - judge(0).removed,
            {u for u in judge(0).users if partition_of(u).number == 0},
        )
    )
    goners = ((Space.USERS, user), (Space.ITEMS, item))
    gone = {"type": "item_removed", "event_id": "gone", "occurred_at": at, "item_id": item}
    parts[0] += [erasure(int(user.removeprefix("user-")), at), json.dumps(gone).encode(), b"{}"]
    file, longer = folder / "messages.json", folder / "longer.json"
    file.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in topic(0)]))
    longer.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in parts]))
    assert nursery.run(state, "ingest", messages=str(file), limit=1_000) == 0
    assert nursery.run(state, "finetune") == 0
    assert nursery.run(state, "ingest", messages=str(file)) == 0
    tail = {"messages": str(longer), "every_s": 100.0}
    assert nursery.run(state, "ingest", **tail, batch=1_000, mark=WRITE, occurrence=1) < 0
    assert nursery.run(state, "ingest", **tail, batch=1, limit=2) == 0  # readers may be ahead
    with closing(EdgeIndex(state / "index")) as index:
        before = [index.fetch(f"t-{s}-1", s, [name]) for s, name in goners]
    assert all(point is not None and not point.deleted for [point] in before)
    assert nursery.run(state, "ingest", **tail) == 0
    with closing(EdgeIndex(state / "index")) as index:
        after = [index.fetch(f"t-{s}-1", s, [name]) for s, name in goners]
    assert all(point is None or point.deleted for [point] in after)


def test_the_streams_are_worth_it() -> None:
    counts = Counter[str]()
    for seed in range(20):
        counts += judge(seed).counts
    assert min(counts["duplicates"], counts["late"], counts["conversion"]) > 20
    assert counts["erase_user"] > 40 and counts["dead_letters"] == 20 * 12
