"""The last coordinate of a served item: what the score adds to the cosine.

score(u, i) = u·z_i + w·log(f + n_i + e_i) + b·[i was placed], with n_i the item's decayed count,
e_i the count that an item placed by its text is expected to have, f a floor, and b what its novelty
is worth. The terms w, b and the half-life of n come with a version, which set them from the stream
(`model.calibration`). Counts are kept under every half-life that a version may come with, so that
a switch needs no history.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.popularity import Popularity
from model.state import ModelState, terms_of
from model.terms import default_terms


class Coordinate:
    """Last coordinates of items as of the last event.

    Parameters
    ----------
    config : ModelConfig
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self.terms = default_terms(config)
        half_lives = {*config.popularity_half_lives, config.popularity_half_life}
        self._counts = {h: Popularity(h, config.popularity_floor) for h in sorted(half_lives)}
        self._placed = np.zeros(0, np.bool_)

    @property
    def age(self) -> float:
        """Events since the landmark of the counts that are served; when it falls, all changed."""
        return self._served.age

    @property
    def _served(self) -> Popularity:
        return self._counts[self.terms.half_life]

    def update(self, items: NDArray[Any], size: int) -> None:
        """Count events, int[n] in order of arrival; ``size`` is that of the vocabulary."""
        for counts in self._counts.values():
            counts.update(items, size)

    def take_back(self, items: NDArray[Any], ages: NDArray[np.int64]) -> None:
        """Count events no more, as of now: see `Popularity.take_back`."""
        for counts in self._counts.values():
            counts.take_back(items, ages)

    def counts(self) -> NDArray[np.float64]:
        """Decayed counts as of now under the half-life that is served, float64[I]."""
        return self._served.counts()

    def adopt(self, state: ModelState) -> None:
        """Go on under a version, with the landmark at now: all coordinates change."""
        self.use(state)
        for counts in self._counts.values():
            counts.forget()
            counts.rebase()
        if state.expected is not None:
            self.place(np.flatnonzero(state.placed), state.expected[state.placed])

    def use(self, state: ModelState) -> None:
        """Go on under a version that is in use already: counts keep their landmark."""
        self.terms, self._placed = terms_of(state.calibration, self._config), state.placed
        self._keep(self.terms.half_life)

    def place(self, items: NDArray[np.int64], expected: NDArray[Any]) -> None:
        """These items were placed, with counts expected of them as of now, float[n]."""
        size = int(items.max()) + 1 if len(items) else 0
        self._placed = _grown(self._placed, size)
        self._placed[items] = True
        self._served.expect(items, expected)

    def of(self, size: int, items: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Coordinates of these items, int[n], or of all ``size``: float32[n]."""
        self.update(np.zeros(0, np.int64), size)
        self._placed = _grown(self._placed, size)
        chosen = np.arange(size) if items is None else items
        scores = np.float32(self.terms.weight) * self._served.scores(chosen)
        return scores + np.float32(self.terms.bias) * self._placed[chosen]

    # -- state

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays from which `restore` makes an equal object."""
        out = {"placed": self._placed.astype(np.float64)}
        for half_life, counts in self._counts.items():
            out |= {f"{half_life!r}.{name}": array for name, array in counts.state().items()}
        return out

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Put back what `state` gave, after `use`."""
        self._placed = arrays["placed"].astype(np.bool_)
        wanted = list(self._counts)
        names = [name.removesuffix(".age") for name in arrays if name.endswith(".age")]
        self._counts = {
            float(name): Popularity.restore(
                float(name),
                self._config.popularity_floor,
                {part: arrays[f"{name}.{part}"] for part in ("mass", "expected", "age")},
            )
            for name in names
        }
        for half_life in wanted:
            self._keep(half_life)

    def copy(self) -> "Coordinate":
        """Return an equal object that shares nothing with this one."""
        made = Coordinate(self._config)
        made.terms, made._placed = self.terms, self._placed.copy()
        made._counts = {h: counts.copy() for h, counts in self._counts.items()}
        return made

    def _keep(self, half_life: float) -> None:
        """Begin counts under a half-life, where none are kept, from those under the nearest."""
        if half_life not in self._counts:
            near = min(self._counts, key=lambda h: abs(np.log(h / half_life)))
            self._counts[half_life] = self._counts[near].under(half_life)


def _grown(marks: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    if size <= len(marks):
        return marks
    return np.concatenate([marks, np.zeros(size - len(marks), np.bool_)])
