"""What users did last, for many users at once: a walk along their chains, then one gather."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.chains import Chains
from stream.edges import EdgeLog, positive

_FURTHER = 4  # how many times the length is walked for users whose last edges do not all count


class Recent(NamedTuple):
    """What users did last, the newest event time first.

    Attributes
    ----------
    item : int32[n, L]
        -1 past the end.
    time_us : int64[n, L]
        Microseconds since the epoch; past the end, of no meaning.
    """

    item: NDArray[np.int32]
    time_us: NDArray[np.int64]


class Histories:
    """Reads users' positive edges, leaving out those that are gone, too old, or of removed items.

    Parameters
    ----------
    horizon_us : int
        Edges before this time do not count.
    removed : bool[I]
        Items that do not count.
    """

    def __init__(
        self, edges: EdgeLog, chains: Chains, horizon_us: int, removed: NDArray[np.bool_]
    ) -> None:
        self._edges = edges
        self._chains = chains
        self._horizon_us = horizon_us
        self._removed = removed
        self._any_removed = bool(removed.any())

    def last(self, start: NDArray[np.int64], length: int) -> Recent:
        """The ``length`` edges that count from these on back.

        Looks at no more than four times as many edges as are wanted.

        Parameters
        ----------
        start : int64[n]
            Numbers of edges, below the first for none.
        """
        met = self._chains.walk(start, length)
        found, ok = self._ordered(met, length)
        short = np.flatnonzero((met[:, -1] >= 0) & ~ok.all(1)) if length else np.empty(0, np.int64)
        if len(short):
            further = self._chains.walk(start[short], _FURTHER * length)
            again, _ = self._ordered(further, length)
            found.item[short], found.time_us[short] = again
        return found

    def _ordered(self, met: NDArray[np.int64], length: int) -> tuple[Recent, NDArray[np.bool_]]:
        """The first ``length`` edges of each row that count, by time; and which entries counted."""
        items = np.full(met.shape, -1, np.int32)
        time_us = np.full(met.shape, np.iinfo(np.int64).min, np.int64)
        ok = met >= 0
        at = met[ok]
        counts = self.count(at)
        if not counts.all():
            ok[ok] = counts
            at = at[counts]
        items[ok] = self._edges.item(at)
        time_us[ok] = self._edges.time_us(at)
        if met.shape[1] > length:
            time_us[np.cumsum(ok, axis=1) > length] = np.iinfo(np.int64).min
        # What does not count has the smallest of times: sorting moves it to the end as well.
        bad = np.flatnonzero((time_us[:, 1:] > time_us[:, :-1]).any(1))
        if len(bad):
            by_time = np.argsort(~time_us[bad], axis=1, kind="stable")
            items[bad] = np.take_along_axis(items[bad], by_time, 1)
            time_us[bad] = np.take_along_axis(time_us[bad], by_time, 1)
        return Recent(items[:, :length], time_us[:, :length]), ok

    def all_before(
        self, sequence: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """All items that count before each of these edges, newest arrival first.

        Returns
        -------
        indptr : int64[n + 1]
        items : int32[*]
        """
        at = self._chains.before(sequence)
        who = np.flatnonzero(at >= self._edges.first)
        at = at[who]
        owners: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        items: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        while len(who):
            counts = self.count(at)
            owners.append(who[counts])
            items.append(self._edges.item(at[counts]))
            link = self._edges.link(at).astype(np.int64)
            on = (link > 0) & (at - link >= self._edges.first)
            who, at = who[on], (at - link)[on]
        owner = np.concatenate(owners)
        indptr = np.zeros(len(sequence) + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=len(sequence)), out=indptr[1:])
        return indptr, np.concatenate(items)[np.argsort(owner, kind="stable")]

    def count(self, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these edges count: bool[n]."""
        counts = positive(self._edges.kind(at)) & (self._edges.time_us(at) >= self._horizon_us)
        if self._any_removed:
            counts &= ~self._removed[np.where(counts, self._edges.item(at), 0)]
        return counts
