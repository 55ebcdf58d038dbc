"""Recent popularity by forward decay: items without new events need no refresh.

An event at clock t adds 2^((t − t₀)/h) to its item's mass, where t counts events, h is the
half-life and t₀ a landmark common to all. Seen from any later moment all masses shrink by one
common factor, which no ranking can see: only the items that had events change.

References
----------
Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

_REBASE = 200.0
"""Half-lives after the landmark when masses are rescaled, far from the limits of float64."""


class Popularity:
    """Exponentially decayed counts of items.

    Parameters
    ----------
    half_life : float
        Events after which a count has halved.
    floor : float
        Count added to every item at the landmark, so that unseen items score finitely.
    """

    def __init__(self, half_life: float, floor: float) -> None:
        if not (np.isfinite(half_life) and half_life > 0 and np.isfinite(floor) and floor > 0):
            raise InvalidInput(f"half-life {half_life} and floor {floor} must be positive")
        self.half_life = half_life
        self.floor = floor
        self.age = 0.0
        self._mass = np.zeros(0)
        self._expected = np.zeros(0)

    def update(self, items: NDArray[Any], size: int | None = None) -> None:
        """Count events, in order of arrival.

        Parameters
        ----------
        items : int[n]
            Item of each event.
        size : int
            Size of the vocabulary, where it has grown.
        """
        if len(items) and int(items.min()) < 0:
            raise InvalidInput(f"item {int(items.min())} is not an index")
        self._grow(max(size or 0, int(items.max()) + 1 if len(items) else 0))
        step = max(1, min(1 << 16, int(_REBASE * self.half_life)))
        for start in range(0, len(items), step):
            part = items[start : start + step]
            if (self.age + len(part)) / self.half_life > _REBASE:
                self.rebase()
            clock = self.age + np.arange(1, len(part) + 1)
            np.add.at(self._mass, part, np.exp2(clock / self.half_life))
            self.age += len(part)

    def take_back(self, items: NDArray[Any], ages: NDArray[np.int64]) -> None:
        """Count some events no more: mass -= 2^((age - a)/h), never below 0.

        Parameters
        ----------
        items : int[n]
        ages : int64[n]
            a, events counted since each of them.
        """
        self._grow(int(items.max()) + 1 if len(items) else 0)
        share = np.exp2(np.maximum((self.age - ages) / self.half_life, -1100.0))
        np.subtract.at(self._mass, items, share)
        np.maximum(self._mass, 0.0, out=self._mass)

    def expect(self, items: NDArray[Any], counts: NDArray[np.float64]) -> None:
        """Let items be scored as if they had a count that stands for no event and decays like one.

        `counts` do not show it, and `forget` takes it back.

        Parameters
        ----------
        items : int[n]
            Distinct.
        counts : float64[n]
            As of now; replaces what was expected of them before.
        """
        self._grow(int(items.max()) + 1 if len(items) else 0)
        if self.age / self.half_life > _REBASE:
            self.rebase()
        self._expected[items] = counts * np.exp2(self.age / self.half_life)

    def forget(self) -> None:
        """Expect nothing of any item."""
        self._expected[:] = 0.0

    def rebase(self) -> None:
        """Move the landmark to now. All scores change: call it when every item is refreshed."""
        since = np.exp2(-min(self.age / self.half_life, 1100.0))
        self._mass *= since
        self._expected *= since
        self.age = 0.0

    def under(self, half_life: float) -> "Popularity":
        """As good a guess as there is at the counts under another half-life.

        Where items come at a steady rate, their counts are proportional to the half-life.
        """
        made = Popularity(half_life, self.floor)
        made._mass = self.counts() * (half_life / self.half_life)
        made._expected = np.zeros(len(made._mass))
        return made

    def counts(self) -> NDArray[np.float64]:
        """Decayed counts as of now, float64[I]."""
        counts: NDArray[np.float64] = self._mass * np.exp2(-self.age / self.half_life)
        return counts

    def scores(self, items: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Log of floor + mass + what is expected, all as of the landmark: float32[n].

        Parameters
        ----------
        items : int[n]
            All by default.
        """
        chosen = slice(None) if items is None else items
        mass = self._mass[chosen] + self._expected[chosen]
        return np.log(mass + self.floor).astype(np.float32)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays from which `restore` builds an equal object."""
        return {
            "mass": self._mass.copy(),
            "expected": self._expected.copy(),
            "age": np.array([self.age]),
        }

    @classmethod
    def restore(
        cls, half_life: float, floor: float, state: dict[str, NDArray[np.float64]]
    ) -> "Popularity":
        """Build an object equal to the one whose `state` was taken."""
        made = cls(half_life, floor)
        made._mass = state["mass"].copy()
        made._expected = state["expected"].copy()
        made.age = float(state["age"][0])
        return made

    def copy(self) -> "Popularity":
        """Return an equal object that shares nothing with this one."""
        return self.restore(self.half_life, self.floor, self.state())

    def _grow(self, size: int) -> None:
        if size > len(self._mass):
            more = np.zeros(size - len(self._mass))
            self._mass = np.concatenate([self._mass, more])
            self._expected = np.concatenate([self._expected, more])
