"""Detectors of change from river, told what a series of standardised windows may be worth.

A series is judged from its beginning each time: some hundreds of values take milliseconds, and a
detector then is a function of the series alone, with no state of its own to be saved or lost.

References
----------
Bifet, Gavaldà: Learning from Time-Changing Data with Adaptive Windowing (ADWIN), 2007. Page:
Continuous Inspection Schemes, 1954. Raab et al.: Reactive Soft Prototype Computing (KSWIN), 2020.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

DetectorKind = Literal["adwin", "page-hinkley", "kswin"]
LEAST_SHIFT = 0.5
"""Page-Hinkley: deviations by which the mean must have moved to count for anything."""
LOOKS = 100.0
"""Windows in which the chance of a false alarm is meant, of those that test each one anew."""
KSWIN_WINDOWS, KSWIN_LATEST = 60, 20
"""KSWIN compares the latest so many windows with as many drawn from those before."""


class _River(Protocol):
    @property
    def drift_detected(self) -> bool: ...
    def update(self, x: float) -> object: ...


def _adwin(chance: float) -> _River:
    made: _River = _drift().ADWIN(delta=chance, clock=1)
    return made


def _page_hinkley(chance: float) -> _River:
    # A sum of values of deviation 1 less k passes h by chance e^(−2·k·h) of the time (Siegmund).
    height = math.log(LOOKS / chance) / (2.0 * LEAST_SHIFT)
    made: _River = _drift().PageHinkley(
        min_instances=20, delta=LEAST_SHIFT, threshold=height, alpha=1.0
    )
    return made


def _kswin(chance: float) -> _River:
    made: _River = _drift().KSWIN(
        alpha=chance / LOOKS, window_size=KSWIN_WINDOWS, stat_size=KSWIN_LATEST, seed=0
    )
    return made


def _drift() -> Any:
    """river's detectors: they take seconds to import, and only who watches for drift needs them."""
    from river import drift

    return drift


_MAKERS: Mapping[DetectorKind, Callable[[float], _River]] = {
    "adwin": _adwin,
    "page-hinkley": _page_hinkley,
    "kswin": _kswin,
}


def alarms(kind: DetectorKind, values: NDArray[np.float64], chance: float) -> list[int]:
    """Indices of the values at which a detector says that the mean has changed.

    Parameters
    ----------
    values : float64[w]
        Independent, of deviation 1 while nothing changes.
    chance : float
        Of a false alarm, in (0, 1): ADWIN's δ, and what the others' thresholds are made from.
    """
    detector = _MAKERS[kind](chance)
    found: list[int] = []
    for index, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.drift_detected:
            found.append(index)
    return found
