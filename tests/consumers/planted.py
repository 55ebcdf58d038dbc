"""A state folder in which programs run over a topic of clicks, and versions that are planted."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from consumers import wiring
from consumers.decisions import Decided
from consumers.index import Space
from consumers.ingestor import Ingestor
from consumers.lifecycle import Stop
from consumers.publisher import Publisher
from consumers.scheduler import Outcome, Scheduler
from consumers.settings import Settings
from consumers.versions import Version, Versions
from model.recency import plain
from model.state import ModelState
from stream.clock import SystemClock
from stream.sink import FileDeadLetters
from stream.snapshot import SnapshotStore
from tests.consumers.trials import CONFIG, GENRES, ITEMS, Vectors
from tests.faults.nursery import Clock
from tests.faults.topic import Topic

BATCH = 20
FINETUNE_EVERY = 300
BEGIN = len(ITEMS)  # clicks by which all items are known, in order


def settings(state: Path, **more: Any) -> Settings:
    given = {"embedder": "given", "score_share": 1.0, "skew_budget": 0.0, "harm_overlap": 0.0}
    model = CONFIG.model_dump_json()
    return Settings.model_validate({"state": state, "model": model, **given, **more})


def clicks(*of: tuple[int, Sequence[int]]) -> list[bytes]:
    """All items once; then so many clicks on these genres, two a user: the second tells."""
    pairs = [(f"w{n}", item) for n, item in enumerate(ITEMS)]
    rng, names = np.random.default_rng(3), np.array(ITEMS).reshape(GENRES, -1)
    for count, genres in of:
        for n in range(count // 2):
            two = rng.choice(names[genres[n % len(genres)]], 2, replace=False)
            user = f"u{len(pairs)}"
            pairs += [(user, str(item)) for item in two]
    return [
        json.dumps(
            {
                "type": "click",
                "event_id": f"e{n}",
                "occurred_at": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
                "user_id": user,
                "item_id": item,
            }
        ).encode()
        for n, (user, item) in enumerate(pairs)
    ]


def plant(state: Path, z: Vectors) -> Version:
    """Write a version as a fine-tune of the newest snapshot would."""
    opened = SnapshotStore(state / "graph", SystemClock()).open_view()
    assert opened is not None
    edges, recency = opened.view.next_sequence, plain(np.array([1, 0, 0, 0], np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    made = ModelState(z, recency, np.ones(len(z), np.bool_), parameters, edges)
    meta = {"edges": edges}
    return Versions(state / "models").write(made, tuple(ITEMS), opened.info.number, meta)


class Plan(Scheduler):
    """Fine-tunes at once, in this process: to what is planned, a version after the other."""

    def __init__(self, state: Path, plan: Sequence[Vectors], every_events: int) -> None:
        self.every_events, self.noted = every_events, 0
        self._state, self._plan = state, plan

    def start(self) -> None: ...

    def close(self) -> None: ...

    def request(self) -> None:
        self.noted = 0

    def finished(self) -> Outcome | None:
        return None

    def wait(self, timeout_s: float) -> Outcome:
        number = len(Versions(self._state / "models").numbers())
        return Outcome(str(plant(self._state, self._plan[number]).number))


@contextmanager
def program(
    given: Settings, messages: Sequence[bytes], plan: Sequence[Vectors] | None = None, **more: Any
) -> Iterator[tuple[Ingestor, Publisher]]:
    """The fast path over a topic, live; or, with a plan of fine-tunes, as a replay."""
    clock, replay = Clock(), plan is not None
    publisher = wiring.open_publisher(given, clock)
    letters = FileDeadLetters(given.state / "dead")
    model = given.hyper_parameters()
    pipeline = wiring.open_pipeline(given, model, publisher, letters, clock, live=not replay)
    source = Topic([messages], pipeline.state.positions)
    if plan is not None:
        more["scheduler"] = Plan(given.state, plan, FINETUNE_EVERY)
    versions = Versions(given.models_dir)
    more = {"batch": BATCH, "replay": replay, "snapshot_every_s": 1e9, **more}
    try:
        yield Ingestor(pipeline, source, versions, clock, Stop(), **more), publisher
    finally:
        for part in (publisher, letters, pipeline.snapshots):
            part.close()


def decided(publisher: Publisher) -> list[Decided]:
    lines = publisher.record.manifest.lines
    return [line.body for line in lines if isinstance(line.body, Decided)]


def told(publisher: Publisher) -> list[tuple[int, str]]:
    return [(one.version, one.verdict) for one in decided(publisher)]


def shown(ingestor: Ingestor, publisher: Publisher) -> dict[str, tuple[object, bytes]]:
    """What readers get of every user and item: the version it is of, and its vector to the bit."""
    graph, found = ingestor.pipeline.state.graph, {}
    live = publisher.published.live
    assert live is not None
    for space, names in ((Space.USERS, graph.users.names), (Space.ITEMS, graph.items.names)):
        for name, point in zip(
            names, publisher.index.fetch(live.of(space), space, names), strict=True
        ):
            assert point is not None and point.vector is not None, name
            found[name] = point.payload["epoch"], point.vector.tobytes()
    return found
