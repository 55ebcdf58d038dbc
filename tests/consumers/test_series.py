"""A watched series: what is quiet, what is a change, and what it says of it."""

from typing import get_args

import numpy as np
import pytest

from consumers.detectors import DetectorKind, alarms
from consumers.series import Change, Cut, Series

CUT = Cut(window=60, reference=20, null=20)
DIM = 5


def stream(seed: int, windows: int, moved_from: int | None = None, by: float = 0.5) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((windows * CUT.window, DIM))
    if moved_from is not None:
        rows[moved_from * CUT.window :] += by
    return rows.astype(np.float32)


def measured(rows: np.ndarray) -> Series:
    series = Series(CUT)
    bounds = series.cut_off(np.arange(len(rows)))
    series.begin(rows[: bounds[CUT.begun]], bounds, np.random.default_rng(0))
    for window in range(CUT.begun, len(bounds) - 1):
        series.add(rows[bounds[window] : bounds[window + 1]])
    return series


@pytest.mark.parametrize("kind", get_args(DetectorKind))
def test_quiet_is_quiet_and_a_shift_is_found(kind: DetectorKind) -> None:
    false = sum(bool(measured(stream(s, 90)).changes(kind, 0.01)) for s in range(12))
    assert false <= 1
    for seed in range(4):
        found = measured(stream(seed, 120, 60)).changes(kind, 0.01)
        assert found
        first = min(found, key=lambda one: one.found)
        assert 60 <= first.found < 100
        assert abs(first.since - 60) <= 5


def test_a_change_says_how_far() -> None:
    changes = measured(stream(1, 110, 70)).changes("adwin", 0.01)
    mean: Change = next(one for one in changes if one.statistic == "mean")
    assert mean.distance == pytest.approx(np.sqrt(DIM * 0.25), rel=0.2)
    assert mean.before < mean.distance / 2
    assert mean.deviations > 3
    assert mean.chance < 1e-4


def test_what_was_judged_is_not_told_again() -> None:
    series = measured(stream(2, 110, 70))
    assert series.changes("adwin", 0.01)
    series.judged = len(series.ends)
    assert series.changes("adwin", 0.01) == []


def test_windows_stay_what_they_were_as_edges_come() -> None:
    edges = np.arange(0, 3 * 1_000, 3)
    whole, growing = Series(CUT), Series(CUT)
    bounds = whole.cut_off(edges)
    for upto in (100, 130, 700, 1_000):
        grown = growing.cut_off(edges[:upto])
    assert growing.ends == whole.ends
    np.testing.assert_array_equal(bounds, grown)
    # A click has retired some impressions of old windows: the bounds are those of the edges.
    thinned = np.delete(edges, np.arange(5, 40))
    np.testing.assert_array_equal(np.diff(growing.cut_off(thinned))[:2], [25, 60])


def test_another_space_is_measured_anew() -> None:
    series = measured(stream(3, 60))
    assert series.enough
    assert series.measured(59)
    series.forget()
    assert not series.measured(0)
    assert series.standardised().shape == (0, 3)
    assert series.changes("adwin", 0.5) == []
    with pytest.raises(ValueError, match="begun"):
        series.add(stream(0, 1))


def test_a_cut_that_teaches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        Cut(100, 10, 3)


def test_a_detector_is_a_function_of_the_series() -> None:
    values = np.random.default_rng(0).standard_normal(300)
    values[150:] += 2
    for kind in get_args(DetectorKind):
        assert alarms(kind, values, 0.01) == alarms(kind, values, 0.01)


@pytest.mark.parametrize("kind", get_args(DetectorKind))
def test_coming_nearer_than_the_null_was_is_no_drift(kind: DetectorKind) -> None:
    rows = stream(3, 120)
    # Until a while after the null, windows are of one half of the users and of the other in turn.
    uneven = np.repeat(np.where(np.arange(60) % 2, 0.4, -0.4), CUT.window)
    rows[: len(uneven)] += uneven[:, None].astype(np.float32)
    assert measured(rows).changes(kind, 0.01) == []
