"""Whether a new version does harm: its hits against the other's, click by click.

Each click is asked of both versions before either learns from it, and the difference of their
Recall@20 (-1, 0 or 1) goes into a confidence sequence: one of all clicks, one of those on cold
items. Both may be looked at after every click; see `model.confidence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from consumers.decisions import Interval
from model.confidence import ConfidenceSequence

_LOOKS = 3
"""Ways to be found harmful: on the last clicks, on all that come, on the cold ones among them."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a new version may cost, and how long it is looked at.

    Attributes
    ----------
    chance : float
        Of a version that loses no more than the margin being refused or taken back at all.
    margin : float
        Loss of Recall@20 that is no harm.
    cold_margin : float
        The same on cold items alone. They are few, and a version that learns them from their first
        events places them otherwise than one that went by their texts: more is at stake each time.
    window : int
        Scored clicks after which a version that is held is held no longer.
    wait_s : float
        Seconds after which likewise, when too few clicks come.
    undecided : "publish" or "refuse"
        What becomes of it then.
    watch : int
        Scored clicks after the flip for which the version before goes on beside it.
    overlap : float
        Of the lists before and after, on average; below it a version must have been shown to do no
        harm, and is refused where it is undecided.
    skew : float
        Recall@20 that a reader may lose whose users and items are of two versions; 0: nothing is
        written in place.
    residual : float
        Distance of items' vectors that no rotation explains, for a version to be written in place.
    asked : int
        Last clicks that are asked again of a version that comes.
    asked_least : int
        Below so many nothing is written in place.
    cold : int
        Events of an item below which it is cold.
    users : int
        Whose lists are compared.
    """

    chance: float = 0.05
    margin: float = 0.02
    cold_margin: float = 0.1
    window: int = 2_000
    wait_s: float = 60.0
    undecided: Literal["publish", "refuse"] = "publish"
    watch: int = 2_000
    overlap: float = 0.05
    skew: float = 0.005
    residual: float = 0.02
    asked: int = 1_000
    asked_least: int = 200
    cold: int = 5
    users: int = 200

    def sequence(self) -> ConfidenceSequence:
        """One of the looks: its upper bound is wrong with a third of the chance."""
        return ConfidenceSequence(2 * self.chance / _LOOKS)


def harmful(seen: ConfidenceSequence, margin: float) -> bool:
    """Whether more than the margin is lost."""
    return seen.high <= -margin + _ROUNDING


def harmless(seen: ConfidenceSequence, margin: float) -> bool:
    """Whether no more than the margin is lost."""
    return seen.low >= -margin - _ROUNDING


class Comparison:
    """Two versions on the same clicks.

    Parameters
    ----------
    budgets : Budgets
    warm : bool[I]
        Items of which the new version knows enough; those beyond are cold.
    """

    def __init__(self, budgets: Budgets, warm: NDArray[np.bool_]) -> None:
        self._budgets = budgets
        self._warm = warm
        self.every = budgets.sequence()
        self.cold = budgets.sequence()

    def add(
        self, new: NDArray[np.float64], old: NDArray[np.float64], items: NDArray[np.int64]
    ) -> None:
        """Take in the hits of both on clicks in order, float64[n], and what was clicked."""
        difference = new - old
        known = np.minimum(items, max(len(self._warm) - 1, 0))
        warm = (items < len(self._warm)) & self._warm[known] if len(self._warm) else items < 0
        self.every.update(difference)
        self.cold.update(difference[~warm])

    @property
    def harm(self) -> str | None:
        """Where more than the margin is lost; None where that is not shown."""
        budgets = self._budgets
        if harmful(self.every, budgets.margin):
            return "of all clicks"
        return "of clicks on cold items" if harmful(self.cold, budgets.cold_margin) else None

    @property
    def harmless(self) -> bool:
        """Whether it is shown of all clicks that no more than the margin is lost."""
        return harmless(self.every, self._budgets.margin)

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """State as named arrays for a snapshot."""
        arrays = {"warm": self._warm.astype(np.float64)}
        for name, seen in (("every", self.every), ("cold", self.cold)):
            arrays |= {f"{name}.{part}": array for part, array in seen.state().items()}
        return arrays

    @classmethod
    def restore(cls, budgets: Budgets, arrays: Mapping[str, NDArray[np.float64]]) -> "Comparison":
        """Make the object again of which `to_arrays` gave these."""
        made = cls(budgets, arrays["warm"].astype(np.bool_))
        made.every, made.cold = (
            ConfidenceSequence.restore({p: arrays[f"{name}.{p}"] for p in ("head", "wealth")})
            for name in ("every", "cold")
        )
        return made


def told(seen: ConfidenceSequence) -> Interval:
    """What a sequence says, for the record."""
    mean = None if seen.mean is None else round(seen.mean, 6)
    return Interval(events=seen.events, mean=mean, low=round(seen.low, 6), high=round(seen.high, 6))
