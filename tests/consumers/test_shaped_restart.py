"""The index against the live model, point by point, over commits and restarts of a pipeline."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from consumers import wiring
from consumers.edge_index import EdgeIndex
from consumers.index import Space
from consumers.ingestor import Ingestor
from consumers.lifecycle import Stop
from consumers.pipeline import Pipeline
from consumers.points import item_points, user_points
from consumers.publisher import Publisher
from consumers.versions import Versions
from stream.clock import SystemClock
from stream.sink import FileDeadLetters
from tests.faults.nursery import MODEL, NAMES, Doom, finetune, settings
from tests.faults.topic import Topic, disturbed

PARTS = disturbed(1, 900)


@contextmanager
def opened(state: Path) -> Iterator[tuple[Pipeline, Ingestor]]:
    """A program over the topic; leaving it is a crash but for what was committed."""
    clock = SystemClock()
    publisher = Publisher(EdgeIndex(state / "index"), state / "manifest.jsonl", NAMES, clock)
    letters = FileDeadLetters(state / "dead")
    pipeline = wiring.open_pipeline(settings(state), MODEL, publisher, letters, clock)
    source = Topic(PARTS, pipeline.state.positions)
    ingestor = Ingestor(
        pipeline, source, Versions(state / "models"), clock, Stop(), limit=300, batch=30
    )
    yield pipeline, ingestor
    for part in (publisher, letters, pipeline.snapshots):
        part.close()


def differing(pipeline: Pipeline) -> set[str]:
    """Names of points that are not as the live model has them."""
    live, index = pipeline.live, pipeline.publisher.index  # type: ignore[union-attr]
    users = user_points(live, np.arange(len(live.graph.users), dtype=np.int32))
    items = item_points(live, np.arange(len(live.graph.items), dtype=np.int32))
    found: set[str] = set()
    for space, made, name in (
        (Space.USERS, users, NAMES.users),
        (Space.ITEMS, items, NAMES.items),
    ):
        stored = index.fetch(index.aliases()[name], space, made.ids)
        for i, vector, point in zip(made.ids, made.vectors, stored, strict=True):
            if point is None or point.vector is None or not np.array_equal(point.vector, vector):
                found.add(i)
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state of which a third was taken, under a version that readers see."""
    with opened(tmp_path) as (_, ingestor):
        ingestor.run()
    finetune(tmp_path, Doom(None, 0))
    with opened(tmp_path) as (pipeline, ingestor):
        ingestor.run()
        assert pipeline.live.ready and pipeline.publisher is not None
        assert pipeline.publisher.live == 1
    return tmp_path


def some_steps(pipeline: Pipeline, ingestor: Ingestor, steps: int) -> None:
    """Take events under a threshold that holds much back."""
    ingestor._resume(pipeline.state.extra)
    for _ in range(steps):
        ingestor.step()
        pipeline.shaper.tolerance.threshold = 0.5


def test_when_a_program_ends_nothing_waits(state: Path) -> None:
    with opened(state) as (pipeline, _):
        assert differing(pipeline) == set()


def test_what_waits_at_a_crash_is_written_after_it(state: Path) -> None:
    with opened(state) as (pipeline, ingestor):
        some_steps(pipeline, ingestor, 8)
        waiting = pipeline.shaper.waiting
        assert waiting > 5
        assert len(differing(pipeline)) == waiting
        ingestor._commit()
    with opened(state) as (pipeline, ingestor):
        assert len(differing(pipeline)) == waiting
        pipeline.publish()
        assert differing(pipeline) == set()


def test_after_a_flip_nothing_waits(state: Path) -> None:
    with opened(state) as (pipeline, ingestor):
        some_steps(pipeline, ingestor, 8)
        ingestor._commit()
        assert differing(pipeline)
        finetune(state, Doom(None, 0))
        for _ in pipeline.adopt(Versions(state / "models").open(2)):
            pipeline.take(next(iter(ingestor.source.poll(30, 0.0))))
            pipeline.publish()
        assert pipeline.publisher is not None and pipeline.publisher.live == 2
        assert differing(pipeline) == set()
        pipeline.take(next(iter(ingestor.source.poll(30, 0.0))))
        pipeline.publish()
        assert differing(pipeline) == set()  # what is touched first is new to the shaper's eye


def test_the_report_says_what_was_saved(state: Path) -> None:
    from consumers import report

    with opened(state) as (pipeline, ingestor):
        some_steps(pipeline, ingestor, 8)
        told = report.figures(ingestor, 1.0)
        writes = json.loads(json.dumps(told["writes"]))
        assert writes["touched"] == writes["written"] + writes["saved"]
        assert writes["saved"] > 0 and writes["waiting"] == pipeline.shaper.waiting
        said = "\n".join(report._lines(told))
        assert f"{writes['written']:,} points written" in said
    with closing(EdgeIndex(state / "index")) as index:
        assert index.backlog(NAMES.items).points > 0
