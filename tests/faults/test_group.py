"""Members come, go, are killed and sleep: what comes out is what the oracle says of the topic.

The state of a partition goes with it, nobody's vector goes back at any of it, and no two members
ever write one user: what one that slept still has on its way has no effect.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.homes import FOLDER
from consumers.retraining import ROLLBACKS, Requests
from stream.joins import Transition
from stream.snapshot import SnapshotStore
from tests.faults import nursery
from tests.faults.group import Group
from tests.faults.judged import COUNTS, Found, judge, points, regressions, topic

SEEDS = 1 + int(os.environ.get("GOAT_FAULTS", "1")) // 4
VERSIONS_AT = (0.2, 0.35, 0.5, 0.65, 0.8)
BACK_AT = 0.7  # to the version before, when there is one


class Storm:
    """Moves at random moments: between steps, and while a write is on its way."""

    def __init__(self, group: Group, rng: np.random.Generator) -> None:
        self.group, self.rng = group, rng
        self.faults = Counter[str]()
        self._within = False
        self._pace = np.ones(0)
        group.index.before_write = self._while_it_writes

    def move(self) -> None:
        group, rng = self.group, self.rng
        awake = [m for m in group.members if m not in group.asleep]
        kind = rng.choice(["join", "leave", "kill", "sleep", "wake", "balance"])
        if kind == "join" and len(group.members) < 4:
            group.join()
        elif kind in ("leave", "kill") and len(awake) > 1:
            getattr(group, kind)(awake[int(rng.integers(len(awake)))])
        elif kind == "sleep" and len(awake) > 1:
            group.sleep(awake[int(rng.integers(len(awake)))])
        elif kind == "wake" and group.asleep:
            group.wake(group.asleep[0])
        elif kind != "balance":
            return
        self.faults[str(kind)] += 1
        group.balance()

    def step_one(self) -> None:
        """One member goes on; some are much slower than others, for a while."""
        group = self.group
        awake = [m for m in group.members if m not in group.asleep]
        if len(self._pace) != len(awake) or self.rng.random() < 0.02:
            self._pace = self.rng.dirichlet(np.full(len(awake), 0.5))
        awake[int(self.rng.choice(len(awake), p=self._pace))].step()

    def _while_it_writes(self) -> None:
        """The one who writes stands still, before its write has arrived, and others go on."""
        group = self.group
        if self._within or self.rng.random() > 0.2:
            return
        self._within = True
        writer = next((m for m in group.members if m._lock._is_owned()), None)  # type: ignore[attr-defined]
        if writer is not None and writer not in group.asleep:
            others = [m for m in group.members if m is not writer and m not in group.asleep]
            group.sleep(writer)
            for _ in range(0 if others else 1):
                others.append(group.join())
            group.balance()
            for _ in range(int(self.rng.integers(4, 30))):
                others[int(self.rng.integers(len(others)))].step()
            self.faults["written late"] += 1
        self._within = False


def settled(group: Group) -> bool:
    """Whether all is read, written and live."""
    whole = group.whole
    newest = whole.versions.newest()
    return (
        whole.source.exhausted
        and newest is not None
        and whole.pipeline.publisher is not None
        and whole.pipeline.publisher.live == newest.number
        and len(cells := [c for m in group.members for c in m.cells.values()]) == 3
        and all(c.position == len(group.messages[c.partition.number]) for c in cells)
        and all(not c.behind and not c.pipeline.live.pending for c in cells)
        and all(c.pipeline.live.version == newest.number for c in cells)
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whoever_keeps_a_partition_nothing_is_lost_doubled_or_goes_back(
    folder: Path, record_property: Callable[[str, object], None], seed: int
) -> None:
    rng = np.random.default_rng([seed, 16])
    group = Group(folder, topic(seed), rng)
    storm = Storm(group, rng)
    group.join()
    group.join()
    group.balance()
    total = sum(map(len, topic(seed)))
    due = [int(total * share) for share in VERSIONS_AT]
    back = int(total * BACK_AT)
    steps = 0
    while not settled(group):
        steps += 1
        assert steps < 6_000, (group.whole.doing, storm.faults)
        calm = group.whole.source.exhausted and steps > 600
        if calm and group.asleep:
            group.wake(group.asleep[0])
            group.balance()
        if not calm and rng.random() < 0.15:
            storm.move()
        group.whole.step()
        storm.step_one()
        if due and group.whole.pipeline.tally.events_in >= due[0]:
            group.whole._commit()
            nursery.finetune(folder, nursery.Doom(None, 0))
            due.pop(0)
        if back and group.whole.pipeline.tally.events_in >= back and (kept := group.before):
            Requests(folder / ROLLBACKS).ask(f"person-{kept}", "a test")
            back = 0
    for member in list(group.members):
        group.leave(member)
    group.whole._commit()
    group.close()
    found = verdict(group, seed)
    group.index.shut()
    record_property("faults", {f"group: {kind}": n for kind, n in storm.faults.items()})
    record_property("found", vars(found))
    assert not found, vars(found)
    assert group.returned
    assert {"written late", "kill", "wake"} <= storm.faults.keys()


def verdict(group: Group, seed: int) -> Found:
    """Compare the edges of all partitions, and all vectors, with the oracle's."""
    oracle, found = judge(seed), Found()
    edges, said = Counter[tuple[str, str, int, str]](), Counter[str]()
    for folder in sorted((group.state / FOLDER).glob(f"{group.partitions[0].topic}-*")):
        newest = max(folder.iterdir())
        stored = SnapshotStore(newest, group.clock).load(
            group.whole.pipeline.state.graph.config, group.whole.pipeline.state.orderer.config
        )
        assert stored is not None
        edges.update(stored.graph.edges_by_name())
        tally = stored.extra["tally"]
        assert isinstance(tally, dict)
        said.update({name: int(str(tally.get(name, 0))) for name in COUNTS if name in tally})
        said.update(tally["transitions"])
    expected = Counter(oracle.edges())
    found.lost += [f"edge {edge}" for edge in expected - edges]
    found.doubled += [f"edge {edge}" for edge in edges - expected]
    for name in ("events_in", "duplicates", "late", *Transition):
        if said[name] != oracle.counts[name]:
            found.lost.append(f"{name} {said[name]} of {oracle.counts[name]}")
    points(group.index, oracle, found)
    found.regressed += regressions([json.dumps(note) for note in group.index.notes])
    found.lost += vanished(group.index.notes)
    return found


def vanished(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Users whom readers saw before they were led to another version, and not after."""
    there: dict[str, set[str]] = {}
    name, found = None, list[str]()
    for note in notes:
        if "flip" in note:
            missing = there.get(name or "", set()) - there.setdefault(note["flip"], set())
            found += [f"user {user} at the flip to {note['flip']}" for user in sorted(missing)]
            name = note["flip"]
        elif "gone" in note:
            there.setdefault(note["collection"], set()).difference_update(note["gone"])
        else:
            there.setdefault(note["collection"], set()).update(note["seen"])
    return found
