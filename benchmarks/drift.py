"""False alarms and detections of the drift monitor, on streams that are known to drift or not.

    python benchmarks/drift.py [--streams N] [--evidently N] [--detector adwin|page-hinkley|kswin]

A stream is 300 windows of 2,000 rows in 64 dimensions, each coordinate of deviation 1. ``iid``: all
rows independent. ``ar``: rows follow each other by AR(0.9). ``jitter``: rows are independent around
a centre that moves from window to window by AR(0.9), 0.03 deviations wide in each coordinate. The
first 50 windows are reference and null; a planted drift moves every coordinate by 0.06 deviations
from window 150 on. A quiet stream with any alarm counts as a false alarm, and so does one before
window 150 in a drifting one, which then is not detected. Each drifting stream is the quiet one of
the same seed, moved.

Evidently (its metric of embeddings: the default method, then its others, all at their defaults) is
given the first window as reference and every tenth later one of quiet streams, a third of each
kind; a stream counts when any of them alarms.

The last line is JSON: ``false_alarm_rate_ar``, ``_iid``, ``_jitter``; ``detected_share`` and
``median_delay_windows`` over all three, and by kind; ``evidently_false_alarm_rate`` and by method.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from consumers.detectors import DetectorKind
from consumers.series import Cut, Series

WINDOWS, SIZE, DIM = 300, 2_000, 64
BEGIN = 150
PERSISTENCE = 0.9
JITTER = 0.03
SHIFT = 0.06
CHANCE = 0.01
KINDS = ("iid", "ar", "jitter")
EVIDENTLY_WINDOWS = range(50, WINDOWS, 10)

Rows = NDArray[np.float32]


def quiet(kind: str, windows: int, rng: np.random.Generator) -> Rows:
    """A stream without drift, float32[windows * SIZE, DIM]."""
    rows = rng.standard_normal((windows * SIZE, DIM), np.float32)
    if kind == "ar":
        return _persistent(rows)
    if kind == "jitter":
        centres = _persistent(rng.standard_normal((windows + 100, DIM), np.float32))[100:]
        rows += np.repeat(np.float32(JITTER) * centres, SIZE, axis=0)
    return rows


def _persistent(rows: Rows) -> Rows:
    """AR(0.9) of deviation 1 from independent rows, stationary from the first one on."""
    rows[1:] *= np.float32(np.sqrt(1.0 - PERSISTENCE**2))
    one, back = np.ones(1, np.float32), np.array([1.0, -PERSISTENCE], np.float32)
    filtered: Any = lfilter(one, back, rows, axis=0)
    return cast(Rows, filtered.astype(np.float32, copy=False))


def first_alarm(rows: Rows, seed: int, detector: DetectorKind, moved: float) -> int | None:
    """Window at which the first alarm comes, with what follows window 150 moved."""
    if moved:
        rows = rows.copy()
        rows[BEGIN * SIZE :] += np.float32(moved)
    series = Series(Cut(SIZE))
    bounds = series.cut_off(np.arange(len(rows)))
    learned = int(bounds[series.cut.begun])
    series.begin(rows[:learned], bounds, np.random.default_rng(seed))
    for window in range(series.cut.begun, WINDOWS):
        series.add(rows[bounds[window] : bounds[window + 1]])
    return min((c.found for c in series.changes(detector, CHANCE)), default=None)


def ours(kind: str, streams: int, detector: DetectorKind) -> dict[str, Any]:
    """What came of quiet and of drifting streams of a kind."""
    false, found, delays = 0, 0, list[int]()
    for seed in range(streams):
        rows = quiet(kind, WINDOWS, np.random.default_rng([seed, KINDS.index(kind)]))
        false += first_alarm(rows, seed, detector, 0.0) is not None
        at = first_alarm(rows, seed, detector, SHIFT)
        if at is not None and at >= BEGIN:
            found += 1
            delays.append(at - BEGIN + 1)
        say(f"{kind} {seed + 1}/{streams}: {false} false, {found} found, delays {delays[-3:]}")
    return {
        "false_alarm_rate": false / streams,
        "detected_share": found / streams,
        "median_delay_windows": float(np.median(delays)) if delays else None,
        "delays": delays,
    }


def evidently(streams: int) -> dict[str, float]:
    """Share of quiet streams on which Evidently alarms, by method."""
    # Not installed with the rest (extra `bench`).
    pandas: Any = import_module("pandas")
    methods: Any = import_module("evidently.legacy.metrics.data_drift.embedding_drift_methods")

    # What its metric of embeddings calls; the report around it would draw a picture each time.
    makers: dict[str, Callable[[], Any]] = {
        "default": lambda: methods.model(bootstrap=SIZE < 1000),
        "distance": methods.distance,
        "mmd": methods.mmd,
        "ratio": methods.ratio,
    }
    alarmed = dict.fromkeys(makers, 0)
    for seed in range(streams):
        kind = KINDS[seed % len(KINDS)]
        rows = quiet(kind, WINDOWS, np.random.default_rng([seed, 9]))
        for name, make in makers.items():
            method = make()
            for window in EVIDENTLY_WINDOWS:
                live = pandas.DataFrame(rows[window * SIZE : (window + 1) * SIZE])
                _, detected, _ = method(live, pandas.DataFrame(rows[:SIZE].copy()))
                if detected:
                    alarmed[name] += 1
                    break
        say(f"evidently {seed + 1}/{streams} ({kind}): {alarmed}")
    return {name: count / streams for name, count in alarmed.items()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--evidently", type=int, default=20)
    parser.add_argument("--detector", choices=["adwin", "page-hinkley", "kswin"], default="adwin")
    given = parser.parse_args()
    theirs = evidently(given.evidently) if given.evidently else {}
    kinds = {kind: ours(kind, given.streams, given.detector) for kind in KINDS}
    delays = [delay for one in kinds.values() for delay in one.pop("delays")]
    out: dict[str, Any] = {f"false_alarm_rate_{k}": v["false_alarm_rate"] for k, v in kinds.items()}
    out["detected_share"] = float(np.mean([one["detected_share"] for one in kinds.values()]))
    out["median_delay_windows"] = float(np.median(delays)) if delays else None
    out["evidently_false_alarm_rate"] = theirs.get("default")
    out |= {"by_kind": kinds, "evidently": theirs, "streams": given.streams}
    out |= {"detector": given.detector}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
