"""One watched series: its rows cut into windows, each window's distance to the first ones.

The first windows are the reference, the next teach the null, the rest are judged. What a window
is stays fixed by the edges at its ends: under another model version the same windows are measured
anew, reference, null and all, so that a new version's geometry is no drift.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consumers.detectors import DetectorKind, alarms
from model.change import difference, split
from model.null import LEAST_WINDOWS, Null, learn
from model.shift import NAMES, Reference

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a series is cut.

    Attributes
    ----------
    window : int
        Rows of a window.
    reference, null : int
        Windows that are the reference, and that the null is learned from.
    """

    window: int = 500
    reference: int = 25
    null: int = 25

    def __post_init__(self) -> None:
        if self.window < 2 or self.reference < 1 or self.null < LEAST_WINDOWS:
            raise ValueError(
                f"windows of {self.window} rows, {self.reference} for the reference and {self.null}"
                f" for the null: at least 2, 1 and {LEAST_WINDOWS}"
            )

    @property
    def begun(self) -> int:
        """Windows before the first that is judged."""
        return self.reference + self.null


@dataclass(frozen=True, slots=True)
class Change:
    """What a detector found.

    Attributes
    ----------
    statistic : of `model.shift.NAMES`
    found, since : int
        Window at which it was found, and the first one after the change.
    deviations : float
        By how many deviations of the null the mean of the windows has moved since.
    distance, before : float
        Mean distance to the reference since then, and of the null, in the reference's deviations:
        e^(mean log / 2).
    chance : float
        p-value of the same means before and after, of this series alone.
    """

    statistic: str
    found: int
    since: int
    deviations: float
    distance: float
    before: float
    chance: float


@dataclass(slots=True)
class Series:
    """Windows of one series.

    Attributes
    ----------
    ends : list of int
        Number of the last edge of each window, ascending.
    judged : int
        Windows up to which changes have been told.
    """

    cut: Cut
    ends: list[int] = field(default_factory=list[int])
    judged: int = 0
    _reference: Reference | None = None
    _null: Null | None = None
    _z: list[Floats] = field(default_factory=list[Floats])

    @property
    def enough(self) -> bool:
        """Whether there is anything to judge."""
        return len(self.ends) > self.cut.begun

    @property
    def begun(self) -> bool:
        """Whether it has a reference and a null."""
        return self._null is not None

    def cut_off(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Make windows of new rows, whose edges these are, ascending; the windows' bounds.

        Returns
        -------
        int64[w + 1]
            Where each window of the series begins in ``edges``, and where the last one ends.
        """
        known = np.searchsorted(edges, np.array(self.ends, np.int64), side="right")
        start = int(known[-1]) if len(known) else 0
        fresh = np.arange(start + self.cut.window, len(edges) + 1, self.cut.window)
        self.ends.extend(edges[fresh - 1].tolist())
        return np.concatenate([[0], known, fresh]).astype(np.int64)

    def measured(self, window: int) -> bool:
        """Whether a window's distance, or all that it needs, is known already."""
        return self.begun and window < self.cut.begun + len(self._z)

    def begin(self, rows: Rows, bounds: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Learn reference and null from the rows of the first windows, float32[n, d]."""
        middle = int(bounds[self.cut.reference])
        self._reference = Reference(rows[:middle], rng)
        self._null = learn(self._reference, rows, own=middle, window=self.cut.window, rng=rng)
        self._z = []

    def add(self, rows: Rows) -> None:
        """Measure the next window, float32[n, d]."""
        if self._reference is None or self._null is None:
            raise ValueError("a series is measured after it has begun")
        at = np.array([self.cut.begun + len(self._z)])
        self._z.append(self._null.standardised(self._reference.distances(rows)[None], at)[0])

    def forget(self) -> None:
        """Have all measured anew: the space is another one."""
        self._reference, self._null, self._z = None, None, []

    def standardised(self) -> Floats:
        """Of the null's windows and all after them, float64[w, 3]; empty before there is a null."""
        if self._null is None:
            return np.empty((0, len(NAMES)))
        return np.concatenate([self._null.windows, *(z[None] for z in self._z)])

    def changes(self, kind: DetectorKind, chance: float) -> list[Change]:
        """What the detectors find in windows that have not been judged yet.

        Only what has moved away: windows closer to the reference than the null's were show that the
        null was uneven, as of partitions that were read one after another, and no drift.

        Parameters
        ----------
        chance : float
            Of a false alarm, of this series: the three distances share it.
        """
        z, null = self.standardised(), self._null
        if null is None or not self._z:
            return []
        fresh = null.innovations(z)
        # Window of the first value: the null's windows are those next before the judged.
        first = self.cut.begun - len(null.windows)
        found: list[Change] = []
        for column in range(len(NAMES)):
            before = 0
            for index in alarms(kind, fresh[:, column], chance / len(NAMES)):
                at = before + split(fresh[before : index + 1, column])
                if first + index >= self.judged:
                    late = float(z[at : index + 1, column].mean())
                    centre, wide = float(null.centre[column]), float(null.deviation[column])
                    one = Change(
                        statistic=NAMES[column],
                        found=first + index,
                        since=first + at,
                        deviations=late - float(z[before:at, column].mean()),
                        distance=float(np.exp((centre + late * wide) / 2.0)),
                        before=float(np.exp(centre / 2.0)),
                        chance=difference(fresh[before : index + 1, column], at - before),
                    )
                    if one.deviations > 0:
                        found.append(one)
                before = at
        return found
