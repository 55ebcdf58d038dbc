"""The popularity term of the score, as it stood when each event of the past came.

What a score adds to the cosine, learning leaves to it: an event's item is told from others by
cosine + w·log(f + n_i), with n_i the item's decayed count just before the event. Else the cosines
would learn what was popular, be served with the popularity of today on top of it, and keep
yesterday's for as long as it takes to unlearn.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions
from model.popularity import Popularity

_PER_HALF_LIFE = 8
"""Moments in a half-life: by the next one no count has faded by more than 9 %."""
_CELLS = 1 << 24
"""Moments times items, at most: 64 MiB."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What the score added to each item, at some moments of the past.

    Attributes
    ----------
    added : float32[S, I]
    moment : int32[E]
        The last of these moments that is not behind each event.
    """

    added: NDArray[np.float32]
    moment: NDArray[np.int32]

    def of(self, rows: NDArray[np.int64], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """What was added to these items when these events came, float32[n, m].

        Parameters
        ----------
        rows : int64[n]
            Events.
        items : int[n, m] or int[m]
        """
        found: NDArray[np.float32] = self.added[self.moment[rows][:, None], items]
        return found


def trend(data: Interactions, *, weight: float, half_life: float, floor: float) -> Trend:
    """Count the events again, in order of arrival.

    Parameters
    ----------
    data : Interactions
        Positive events.
    weight : float
        w, of the log count.
    half_life : float
        Events after which a count has halved.
    floor : float
        f, added to every count.
    """
    order = np.argsort(data.sequence, kind="stable")
    most = max(1, min(_CELLS // max(data.items, 1), len(data)))
    wanted = int(np.ceil(len(data) * _PER_HALF_LIFE / half_life))
    edges = np.linspace(0, len(data), min(max(wanted, 1), most) + 1).astype(np.int64)
    counts = Popularity(half_life, floor)
    counts.update(np.zeros(0, np.int64), data.items)  # nobody had anything yet
    added = np.empty((len(edges) - 1, data.items), np.float32)
    for at, (start, stop) in enumerate(pairwise(edges.tolist())):
        added[at] = np.log(counts.counts() + floor)
        counts.update(data.item[order[start:stop]])
    added *= np.float32(weight)
    moment = np.empty(len(data), np.int32)
    moment[order] = np.repeat(np.arange(len(added), dtype=np.int32), np.diff(edges))
    return Trend(added, moment)
