"""What the loop makes of trials: harm is taken back, once, whatever is killed; people go first."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from consumers import wiring
from consumers.cli import app
from consumers.decisions import Decided
from consumers.excising import excise
from consumers.inputs import Inputs
from consumers.manifest_steps import Step
from consumers.publisher import Publisher
from consumers.retraining import ROLLBACKS, Requests
from consumers.steps import Back
from consumers.times import span_of
from stream.clock import SystemClock
from tests.consumers.planted import (
    BEGIN,
    FINETUNE_EVERY,
    clicks,
    decided,
    plant,
    program,
    settings,
    shown,
    told,
)
from tests.consumers.publishing import Crash
from tests.consumers.trials import Vectors, good, rotated, shuffled

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
EARLY, LATE = range(3), range(3, 6)
LATER_HARM = shuffled(good(), np.arange(90, 180))
"""A version that loses users of the last three genres alone."""
KILLS = ["decided", Back.WRITTEN, Back.CAUGHT_UP, Back.FLIPPED, Back.RECORDED]
PLAN = [good(), LATER_HARM, rotated(good(seed=5))]
STREAM = clicks((600 - BEGIN, EARLY), (400, LATE))


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def replayed(state: Path, doom: Callable[[Publisher], None] | None = None) -> dict[str, object]:
    """Everything that a replay leaves, the kill apart."""
    with program(settings(state), STREAM, PLAN) as (ingestor, publisher):
        if doom is not None:
            doom(publisher)
        ingestor.run()
        pipeline = ingestor.pipeline
        return {
            "decided": decided(publisher),
            "live": publisher.live,
            "withdrawn": publisher.published.withdrawn,
            "shown": shown(ingestor, publisher),
            "graph": pipeline.state.graph.digest(),
            "arrays": {name: a.tobytes() for name, a in pipeline.state.arrays.items()},
        }


def killed(publisher: Publisher, at: str | Back) -> None:
    """Have this one end at a step of its return, or once that is decided."""
    record = publisher.record.append

    def append(body: Step) -> None:
        record(body)
        if at == "decided" and isinstance(body, Decided) and body.verdict == "roll_back":
            raise Crash

    def on_step(step: object) -> None:
        if step is at:
            raise Crash

    publisher.record.append = append  # type: ignore[method-assign, assignment]
    publisher.on_step = on_step


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        return replayed(Path(folder))


def test_a_replay_takes_back_what_does_harm_and_goes_on(undisturbed: dict[str, object]) -> None:
    verdicts = [(one.version, one.verdict) for one in undisturbed["decided"]]  # type: ignore[attr-defined]
    assert verdicts == [(1, "publish"), (2, "publish"), (2, "roll_back"), (3, "publish")]
    assert (undisturbed["live"], undisturbed["withdrawn"]) == (3, 2)


@pytest.mark.parametrize("at", KILLS)
def test_a_return_in_a_replay_is_repeated_to_the_bit_after_a_kill(
    state: Path, undisturbed: dict[str, object], at: str | Back
) -> None:
    with pytest.raises(Crash):
        replayed(state, lambda publisher: killed(publisher, at))
    again = replayed(state)
    for name, was in undisturbed.items():
        assert again[name] == was, name


def served(state: Path, *versions: Vectors) -> None:
    """Have readers see these, one after the other."""
    stream = STREAM[: FINETUNE_EVERY * len(versions)]
    with program(settings(state), stream, versions) as (ingestor, publisher):
        ingestor.run()
        assert publisher.live == len(versions)


@pytest.mark.parametrize("at", KILLS)
def test_live_a_return_cut_short_is_finished_though_nothing_more_comes(
    state: Path, at: str | Back
) -> None:
    served(state, good(), LATER_HARM)
    with program(settings(state), STREAM) as (ingestor, publisher):
        assert publisher.live == 2
        killed(publisher, at)
        with pytest.raises(Crash):
            ingestor.run()
    with program(settings(state), STREAM, limit=0) as (ingestor, publisher):
        ingestor.run()
        assert (publisher.live, ingestor.pipeline.live.version) == (1, 1)
        assert told(publisher) == [(1, "publish"), (2, "publish"), (2, "roll_back")]
        assert {epoch for epoch, _ in shown(ingestor, publisher).values()} == {1}


def test_what_readers_were_taken_back_from_is_not_tried_again(state: Path) -> None:
    served(state, good(), LATER_HARM)
    with program(settings(state), STREAM) as (ingestor, publisher):
        ingestor.run()
        assert (publisher.live, ingestor.pipeline.live.version) == (1, 1)
        assert told(publisher)[-1] == (2, "roll_back")
        assert len(told(publisher)) == 3


def test_what_was_refused_is_not_tried_again(state: Path) -> None:
    served(state, good())
    plant(state, shuffled(good()))
    doing: list[str] = []

    def note() -> None:
        if told(publisher)[-1] == (2, "refuse"):
            doing.append(ingestor.doing)

    with program(settings(state, harm_chance=1e-6), STREAM) as (ingestor, publisher):
        ingestor.on_step = note
        ingestor.run()
        assert (publisher.live, ingestor.pipeline.live.version) == (1, 1)
        assert told(publisher) == [(1, "publish"), (2, "hold"), (2, "refuse")]
    assert len(doing) > 10
    assert "publishing version 2" not in doing


def test_a_version_is_watched_no_longer_than_stated(state: Path) -> None:
    served(state, good(), rotated(good()))
    with program(settings(state, harm_watch=40), STREAM) as (ingestor, publisher):
        ingestor.run()
        last = decided(publisher)[-1]
        assert (last.verdict, last.version, publisher.live) == ("keep", 2, 2)
        assert last.every is not None
        assert 40 <= last.every.events <= 50
        assert ingestor.pipeline.trial.before is None


def test_a_program_that_ends_leaves_a_version_that_is_held_to_the_next(state: Path) -> None:
    served(state, good())
    plant(state, rotated(good()))
    with program(settings(state), STREAM[:360]) as (ingestor, publisher):
        ingestor.run()
        assert (publisher.live, told(publisher)[-1]) == (1, (2, "hold"))
    with program(settings(state, harm_window=40), STREAM) as (ingestor, publisher):
        ingestor.run()
        assert publisher.live == 2


def test_a_persons_return_does_not_wait_for_a_version_that_is_held(state: Path) -> None:
    served(state, good(), rotated(good()))
    plant(state, good(seed=5))
    requests, asked = Requests(state / ROLLBACKS), 0

    def ask() -> None:
        nonlocal asked
        if asked == 0 and ingestor.pipeline.trial.holding:
            asked = ingestor.pipeline.tally.events_in
            requests.ask("test-1", "a test")

    with program(
        settings(state), STREAM, rollbacks=requests, frozen=lambda: "a test" if asked else None
    ) as (ingestor, publisher):
        ingestor.on_step = ask
        ingestor.run()
        assert asked
        assert (publisher.live, ingestor.pipeline.live.version) == (1, 1)
        assert told(publisher)[-1] == (3, "hold")
        assert requests.waiting() == []
        assert ingestor.errors == []
        assert not [name for name in publisher.index.collections() if name.endswith("-3")]


# -- a person's commands


def test_publish_says_why_a_version_was_refused(state: Path) -> None:
    served(state, good(), rotated(good()))
    plant(state, shuffled(good()))
    given = settings(state)
    told_by = {"GOAT_STATE": str(state), "GOAT_MODEL": given.model, "GOAT_EMBEDDER": "given"}
    for _ in range(2):  # what was decided holds
        done = CliRunner().invoke(app, ["publish"], env=told_by)
        assert done.exit_code == 1, done.output
        said = " ".join(done.output.split())
        assert "version 3 was refused: it loses on the last clicks" in said
        assert "Readers still see version 2" in said
        assert "published version" not in said
    with closing(wiring.open_publisher(given, SystemClock())) as publisher:
        assert publisher.live == 2
        assert told(publisher)[2:] == [(2, "keep"), (3, "refuse")]


def test_an_excision_in_place_is_published_though_its_lists_are_others(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person has had taken out of the graph may be what the last clicks are."""
    served(state, good(), rotated(good()))
    monkeypatch.setattr(
        "consumers.finetuner.finetune_job", lambda **_: str(plant(state, shuffled(good())).number)
    )
    given = settings(state, harm_overlap=1.0)
    rule = span_of("w1*", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert excise(given, rule, Inputs(), in_place=True) == 0
    with closing(wiring.open_publisher(given, SystemClock())) as publisher:
        assert publisher.live == 3
        last = decided(publisher)[-1]
        assert (last.version, last.verdict) == (3, "publish")
        assert last.why == "a person has had events taken out"
