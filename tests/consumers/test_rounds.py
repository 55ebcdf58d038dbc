"""The transport's own signs of drift: rounds that go far beyond their history."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from consumers.alerts import Place
from consumers.drift import DriftConfig
from consumers.drift_state import DriftState
from consumers.rounds import KEPT, LEAST, Rounds
from consumers.scene import Scene, Watch
from model.kept_coupling import WarmStart

HERE = Place(900, 5, {"events-0": 900})
QUIET = [3, 4, 3, 2, 4, 3, 3, 5, 3, 4]


def kept() -> WarmStart:
    """Potentials of five items, of which the third has moved most and the last is new."""
    ids, ones = np.arange(10, 15), np.full(5, 0.2)
    before = np.array([0.1, 0.2, 0.3, 0.4, np.nan])
    now = before + np.array([0.0, 0.01, 0.5, -0.1, 0.0])
    now[-1] = 9.0
    return WarmStart(
        ids, ids, now, now, ones, ones, before, before,
        epsilon=0.1, spread=1.0, contraction=0.0, error=0.0,
    )  # fmt: skip


def scene(number: int, iterations: int, *, warm: bool = True) -> Scene:
    version = SimpleNamespace(
        number=number, alignment={"text": {"warm": warm, "iterations": iterations}}
    )
    items = SimpleNamespace(name=lambda n: f"item-{n}")
    made: Any = SimpleNamespace(
        version=version,
        state=SimpleNamespace(potentials={"text": kept()}),
        snapshot=SimpleNamespace(items=items),
    )
    return cast(Scene, made)


def after(past: list[int]) -> Rounds:
    rounds = Rounds()
    for number, iterations in enumerate(past, start=1):
        assert rounds.note(scene(number, iterations), HERE) is None
    return rounds


def test_a_round_that_went_far_is_an_alert_with_what_moved() -> None:
    rounds = after(QUIET)
    alert = rounds.note(scene(11, 40), HERE)
    assert alert is not None
    assert (alert.name, alert.watch, alert.found) == ("transport-11", Watch.ALIGNMENT, HERE)
    [moved] = alert.moved
    assert (moved.segment, moved.statistic) == ("transport of text", "iterations")
    assert (moved.distance, moved.before) == (40.0, pytest.approx(3.0))
    assert moved.deviations > 4 and moved.chance == pytest.approx(1 / 11)
    assert [m.name for m in alert.movers] == ["item-12", "item-13", "item-11", "item-10"]
    assert (alert.movers[0].before, alert.movers[0].after) == pytest.approx((3.0, 8.0))
    assert "transport of text, moved" in str(alert)


def test_a_version_is_noted_once_and_rounds_from_nothing_are_not() -> None:
    rounds = after(QUIET)
    assert rounds.note(scene(11, 400, warm=False), HERE) is None
    assert rounds.note(scene(11, 400), HERE) is None, "it has been noted"
    assert rounds.history["text"] == QUIET
    assert rounds.note(scene(12, 6), HERE) is None


def test_a_short_history_judges_nothing_and_a_long_one_is_cut() -> None:
    assert after([3] * (LEAST - 1)).note(scene(99, 400), HERE) is None
    assert after([3] * LEAST).note(scene(99, 400), HERE) is not None
    assert len(after([3] * (2 * KEPT)).history["text"]) == KEPT


def test_a_round_far_shorter_is_no_drift() -> None:
    assert after([40] * 10).note(scene(11, 1), HERE) is None


def test_it_is_saved_with_the_monitor(tmp_path: Path) -> None:
    state, config = DriftState(tmp_path), DriftConfig()
    monitor = state.load(config)
    monitor.rounds = after(QUIET)
    state.save(monitor)
    again = DriftState(tmp_path).load(config)
    assert again.rounds == monitor.rounds
    assert again.rounds.note(scene(10, 400), HERE) is None
    assert again.rounds.note(scene(11, 400), HERE) is not None
