"""What the fast path says of itself in a file, and what readers make of it."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from consumers.freshness import Freshness
from consumers.index import Backlog
from consumers.no_harm import Budgets, Comparison
from consumers.shaping import Shaped, Shaper, ShapingRules
from consumers.status import EVERY_US, FILE, KEPT, STALE_US, StatusFile, read_status
from consumers.tally import Tally
from consumers.trial import Trial
from consumers.trying import tried_of
from stream.clock import ManualClock
from tests.consumers.serving_parts import NOW


def ingestor(messages: int = 0) -> Any:
    tally = Tally(events_in=messages, applied=messages)
    tally.kinds["click"] = messages
    scores = {"scored_events": 9, "recall@20": None, "by_half_life": {"1": 0.1}}
    evaluator = SimpleNamespace(
        figures=lambda: scores, recall_lately=0.25, popularity_recall_lately=None
    )
    graph = SimpleNamespace(edges=range(4), users=range(5), items=range(6))
    shaper = Shaper(ShapingRules(), np.random.default_rng(0))
    shaper.shaped = Shaped(touched=50, written=20)
    shaper.tolerance.loss = 0.004
    shaper.backlog.last = Backlog(7, at_work=True)
    trial = Trial(verdicts=Counter(publish=3, refuse=1))
    trial._numbers, trial._seen = (8, 7), Comparison(Budgets(), np.array([True, False]))
    lost, same = np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0])
    trial._seen.add(lost, same, np.array([0, 0, 1]))
    pipeline = SimpleNamespace(
        trial=trial,
        tally=tally,
        evaluator=evaluator,
        shaper=shaper,
        state=SimpleNamespace(graph=graph),
        live=SimpleNamespace(version=7, alignment={}),
    )
    freshness = Freshness()
    for seconds in [0.1] * 18 + [0.9, 0.9]:
        freshness.note(seconds)
    return SimpleNamespace(
        doing="reading events",
        events_per_s=2.0,
        source=SimpleNamespace(lag=lambda: {"a": 1, "b": 2}),
        pipeline=pipeline,
        freshness=freshness,
    )


def test_it_is_written_once_a_second_and_says_when(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    kept = StatusFile(tmp_path, clock)
    kept.note(ingestor(1))
    kept.note(ingestor(2))
    first = read_status(tmp_path)
    assert first is not None and (first.events_in, first.kinds) == (1, {"click": 1})
    assert (first.freshness_p50_s, first.scores) == (0.1, {"scored_events": 9, "recall@20": None})
    writes = first.writes
    assert (writes.touched, writes.written, writes.saved, writes.waiting) == (50, 20, 30, 0)
    assert (writes.overlap_lost, writes.backlog, writes.held) == (0.004, 7, False)
    assert first.trial.verdicts == {
        "hold": 0, "publish": 3, "refuse": 1, "keep": 0, "roll_back": 0,
    }  # fmt: skip
    compared = first.trial.compared
    assert compared is not None
    assert (compared.version, compared.against, compared.held) == (8, 7, True)
    assert (compared.every.events, compared.every.mean) == (3, -0.333333)
    assert (compared.cold.events, compared.cold.mean) == (1, 0.0)
    assert -1 <= compared.every.low < -1 / 3 < compared.every.high <= 1
    assert first.freshness_p95_s is not None and first.freshness_p95_s > 0.8
    assert not first.stale(NOW + STALE_US) and first.stale(NOW + STALE_US + 1)
    clock.advance(EVERY_US)
    kept.note(ingestor(2))
    second = read_status(tmp_path)
    assert second is not None and second.events_in == 2
    assert [point.at_us for point in second.past] == [NOW, NOW + EVERY_US]


def test_its_past_is_bounded_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    for _ in range(2):
        kept = StatusFile(tmp_path, clock)
        for _ in range(KEPT - 100):
            clock.advance(EVERY_US)
            kept.note(ingestor())
    found = read_status(tmp_path)
    assert found is not None and len(found.past) == KEPT


def test_what_is_no_status_of_ours_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    for text in ("", "{}", '{"format": 2}', "\0"):
        (tmp_path / FILE).write_text(text)
        assert read_status(tmp_path) is None


def test_a_comparison_is_told_while_it_lasts_and_whether_readers_see_the_version() -> None:
    one = ingestor()
    trial = one.pipeline.trial
    trial.before = one.pipeline.live
    watched = tried_of(trial).compared
    assert watched is not None and not watched.held
    trial.forget()
    assert tried_of(trial).compared is None
