"""kill -9 at random moments: what comes out is what an undisturbed run makes of the same topic.

A model version appears on the way, so that its adoption and the writing of vectors are hit as well.
"""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers import wiring
from consumers.index import Space
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.points import all_points
from consumers.settings import Settings
from consumers.tally import Tally
from consumers.versions import Versions
from model.config import ModelConfig
from model.data import unit_rows
from model.recency import plain
from model.state import ModelState
from stream.batch import Partition
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.joins import Transition
from stream.simulator import Simulator, SimulatorConfig
from stream.sink import DeadLetter
from stream.snapshot import SnapshotStore
from tests.faults.topic import delivered, erasure

Goat = Callable[..., "subprocess.Popen[bytes]"]
Produce = Callable[[str, Sequence[bytes]], None]
ReadLetters = Callable[[str], list[DeadLetter]]

KILLS = 20
VERSION_AFTER = 6  # kills
PARTITIONS = 3
MESSAGES = 6_000
LATENESS_S = 600  # a delay of some hundred messages is more than this, now and then
SEED = 5


def disturbed(rng: np.random.Generator) -> list[bytes]:
    """A platform's messages as a bad network delivers them, with some that are none."""
    # No new items: placing one by its text moves users who have clicked it before, but only with
    # their next event, and vectors are compared in the end.
    config = SimulatorConfig(
        MESSAGES, users=200, items=150, campaigns=6, new_items=0.0, removed_items=0.2
    )
    messages = list(Simulator(config, rng))
    moved = delivered(messages, rng, first=0, delay=250, again=300)
    for user in rng.choice(200, 8, replace=False).tolist():
        place = int(rng.integers(1_000, MESSAGES))
        moved.insert(place, erasure(user, json.loads(messages[place])["occurred_at"]))
    for place in rng.integers(0, MESSAGES, 40).tolist():
        moved.insert(place, b'{"type":"click","broken":' + str(place).encode())
    return moved


@pytest.fixture
def settings(kafka: str, make_topic: Callable[..., str], tmp_path: Path) -> Settings:
    topic = make_topic(PARTITIONS)
    return Settings(
        kafka=kafka,
        topic=topic,
        dead_letter_topic=f"{topic}.dead",
        group=topic,
        state=tmp_path / "killed",
        lateness_s=LATENESS_S,
        batch=40,
        snapshot_every_s=0.02,
    )


def undisturbed(settings: Settings, messages: int) -> None:
    with wiring.opened(settings, Inputs(), publish=False) as parts:
        versions = Versions(settings.models_dir)
        ingestor = Ingestor(
            parts.pipeline, parts.source, versions, SystemClock(), Stop(), limit=messages
        )
        ingestor.run()


def newest(state: Path) -> int:
    """Number of the newest snapshot."""
    found = (state / "graph" / "snapshots").glob("*.json")
    return max((int(path.stem) for path in found if path.stem.isdecimal()), default=0)


def wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def kill_somewhere(
    process: "subprocess.Popen[bytes]", state: Path, rng: np.random.Generator
) -> None:
    """Kill -9: sometimes while it starts, mostly in the midst of its work."""
    if rng.random() < 0.25:
        wait(process, rng.uniform(0.0, 2.0))
    else:
        deadline = Deadline.after(60)
        goal = newest(state) + int(rng.integers(1, 8))
        while newest(state) < goal and process.poll() is None and not deadline.passed:
            wait(process, 0.005)
        wait(process, rng.uniform(0.0, 0.1))
    assert process.poll() is None, f"it ended by itself with {process.returncode}"
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def taken(state: Path) -> int:
    """Messages whose effect is on disk."""
    found = SnapshotStore(state / "graph", SystemClock()).newest()
    return sum(found.positions.values()) if found is not None else 0


def write_version(state: Path) -> None:
    """A model version as a fine-tune would leave it, of no quality at all."""
    opened = SnapshotStore(state / "graph", SystemClock()).open_view()
    assert opened is not None
    config, names = ModelConfig(), tuple(opened.items.names)
    rng = np.random.default_rng(SEED)
    items = unit_rows(rng.normal(size=(len(names), config.dim)).astype(np.float32))
    recency = plain(np.full(config.context, 1 / config.context, np.float32))
    parameters = {"embedding": items, "log_weights": recency.position, "log_gaps": recency.gap}
    learned = np.ones(len(names), np.bool_)
    model = ModelState(items, recency, learned, parameters, opened.view.next_sequence)
    Versions(state / "models").write(model, names, opened.info.number, {"edges": 0})


def check_vectors(settings: Settings, version: int = 1) -> int:
    """Vectors in the index are what the final state makes of them; how many users' were compared.

    Those of users who knew an item that was removed follow with their next event, and are left out.
    """
    clock = SystemClock()
    with ExitStack() as stack:
        publisher = wiring.open_publisher(settings, clock)
        stack.callback(publisher.close)
        letters = wiring.open_dead_letters(settings, kafka=False)
        stack.callback(letters.close)
        live = wiring.open_pipeline(settings, ModelConfig(), publisher, letters, clock).live
        assert publisher.live == live.version == version
        graph, aliases = live.graph, publisher.index.aliases()
        removed = np.flatnonzero(graph.catalog.removed(len(graph.items))).tolist()
        gone = {graph.items.name(number) for number in removed}
        behind = {user for user, item, _, _ in graph.edges_by_name() if item in gone}
        collections = {
            Space.USERS: aliases[publisher.names.users],
            Space.ITEMS: aliases[publisher.names.items],
        }
        count: Counter[Space] = Counter()
        for space, points in all_points(live):
            found = publisher.index.fetch(collections[space], space, points.ids)
            for name, vector, stored in zip(points.ids, points.vectors, found, strict=True):
                assert stored is not None, name
                assert stored.vector is not None, name
                if name not in behind:
                    np.testing.assert_allclose(stored.vector, vector, atol=1e-5, err_msg=name)
            count[space] += len(points)
        for space, collection in collections.items():
            assert publisher.index.count(collection) == count[space]
        return count[Space.USERS] - len(behind)


def state_of(path: Path) -> tuple[Any, Any, Any, Tally]:
    """Edges, catalogue, positions and counts of the newest snapshot."""
    state = SnapshotStore(path / "graph", SystemClock()).load()
    assert state is not None
    catalog = state.graph.catalog
    # As text, because records hold arrays, which do not compare to a bool.
    items = {state.graph.items.name(n): repr(record) for n, record in catalog.items.items()}
    tally = state.extra["tally"]
    assert isinstance(tally, dict)
    return (
        state.graph.edges_by_name(),
        (items, dict(catalog.campaigns)),
        dict(state.positions),
        Tally.from_json(tally),
    )


@pytest.mark.slow
def test_twenty_kills_change_nothing(
    settings: Settings, produce: Produce, read_letters: ReadLetters, goat: Goat
) -> None:
    rng = np.random.default_rng(SEED)
    messages = disturbed(rng)
    state, topic = settings.state, settings.topic
    given = settings.model_dump(exclude_unset=True)
    cuts = np.linspace(0, len(messages), KILLS + 2).astype(int).tolist()
    in_the_midst = 0
    for number, (start, stop) in enumerate(pairwise(cuts[:-1])):
        if number == VERSION_AFTER:
            write_version(state)
        produce(topic, messages[start:stop])
        process = goat("ingest", "--quiet", **given)
        kill_somewhere(process, state, rng)
        in_the_midst += 0 < taken(state) < stop
    produce(topic, messages[cuts[-2] :])
    left = len(messages) - taken(state)
    assert goat("ingest", "--quiet", "--limit", left, **given).wait(120) == 0
    other = {"state": state.with_name("calm"), "dead_letter_topic": f"{topic}.calm", "group": "c"}
    calm = settings.model_copy(update=other)
    undisturbed(calm, len(messages))

    edges, catalog, positions, tally = state_of(state)
    calm_edges, calm_catalog, calm_positions, calm_tally = state_of(calm.state)
    assert edges == calm_edges
    assert catalog == calm_catalog
    assert positions == calm_positions
    assert sum(positions.values()) == len(messages)
    assert positions.keys() == {Partition(topic, n) for n in range(PARTITIONS)}
    assert tally == calm_tally
    assert tally.balanced
    assert tally.events_in == len(messages)
    # Letters may come twice after a crash, but never go missing.
    dead = set(read_letters(settings.dead_letter_topic))
    assert dead == set(read_letters(calm.dead_letter_topic))
    assert len(dead) == tally.dead_letters + tally.late
    assert check_vectors(settings) > 50
    # What this is worth: every kind of trouble was there, and kills met unfinished work.
    assert min(tally.duplicates, tally.late, tally.kinds["conversion"]) > 10
    assert tally.reasons["invalid_json"] == 40
    assert tally.kinds["erase_user"] >= 6
    turned = (Transition.IMPRESSION_CLICKED, Transition.CLICK_CONVERTED)
    assert min(tally.transitions[one] for one in turned) > 10
    assert len(edges) > 3_000
    assert in_the_midst >= KILLS // 2
