"""Each user's positive edges as a chain from the newest to the oldest to arrive.

The chain is the ``link`` column: how many edges ago the user's previous positive edge came. So
the last L items of n users are read in L gathers, however long their histories are.
"""

import numpy as np
from numpy.typing import NDArray

from stream.edges import CLICKED, EdgeLog, chained
from stream.growing import Growing

_FAR = np.iinfo(np.uint32).max


class Chains:
    """Heads of the chains in an edge log, and the walk along them."""

    def __init__(self, edges: EdgeLog) -> None:
        self._edges = edges
        self.heads: Growing[np.int64] = Growing(np.int64, -1)

    def extend(self, user: NDArray[np.int32], positive: NDArray[np.bool_]) -> NDArray[np.uint32]:
        """Links of edges about to be appended, in order; moves the heads.

        Parameters
        ----------
        user : int32[n], n > 0
        positive : bool[n]
            Which of them belong to the chain; the others point into it as well.

        Returns
        -------
        uint32[n]
        """
        n = len(user)
        heads = self.heads.reserve(int(user.max()) + 1)
        order = np.argsort(user, kind="stable")
        who = user[order]
        place = np.arange(n)
        begins = np.append(True, who[1:] != who[:-1])
        start = np.maximum.accumulate(np.where(begins, place, 0))
        last = np.maximum.accumulate(np.where(positive[order], place, -1))
        before = np.append(-1, last[:-1])
        sequence = self._edges.next + order
        previous = np.where(before >= start, sequence[before], heads[who])
        ends = np.flatnonzero(np.append(begins[1:], True))
        ends = ends[last[ends] >= start[ends]]
        heads[who[ends]] = sequence[last[ends]]
        links = np.empty(n, np.uint32)
        links[order] = _distance(sequence, previous)
        return links

    def insert(self, sequence: int) -> tuple[int, ...]:
        """Put an edge that has become positive into its user's chain.

        Returns
        -------
        The numbers of the edges whose links changed.
        """
        edges = self._edges
        user = edges.user_at(sequence)
        heads = self.heads.reserve(user + 1)
        later, at = -1, int(heads[user])
        while at > sequence:
            later, at = at, self._previous(at)
        edges.set_link(sequence, _far(sequence, at))
        if later < 0:
            heads[user] = sequence
            return (sequence,)
        edges.set_link(later, later - sequence)
        return (sequence, later)

    def walk(self, start: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """Edges met going back from these, themselves first.

        Parameters
        ----------
        start : int64[n]
            Numbers of positive edges; below ``edges.first`` for none.

        Returns
        -------
        int64[n, steps]
            -1 past a chain's end.
        """
        met = np.full((steps, len(start)), -1, np.int64)
        who = np.flatnonzero(start >= self._edges.first)
        at = start[who]
        for step in range(steps):
            if not len(who):
                break
            met[step, who] = at
            link = self._edges.link(at).astype(np.int64)
            at = at - link
            on = (link > 0) & (at >= self._edges.first)
            if not on.all():
                who, at = who[on], at[on]
        return met.T

    def before(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positive edge that came before each of these, -1 for none; int64[n].

        None for an impression that a click has answered: its link points to that click.
        """
        link = self._edges.link(sequence).astype(np.int64)
        link[self._edges.kind(sequence) == CLICKED] = 0
        return np.where(link > 0, sequence - link, -1)

    def rebuild(self, n_users: int) -> None:
        """Find the heads anew from the edges (they are not stored)."""
        heads = self.heads.reserve(n_users)
        heads[:] = -1
        for piece in self._edges.slices():
            at = np.flatnonzero(chained(piece.kind))
            # of several edges of one user the last assignment holds: the newest edge
            heads[piece.user[at]] = piece.first + at

    def _previous(self, sequence: int) -> int:
        link = self._edges.link_at(sequence)
        before = sequence - link
        return before if link and before >= self._edges.first else -1


def _distance(sequence: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.uint32]:
    distance = np.where(previous >= 0, sequence - previous, 0)
    distance[distance > _FAR] = 0
    return distance.astype(np.uint32)


def _far(sequence: int, previous: int) -> int:
    distance = sequence - previous if previous >= 0 else 0
    return distance if distance <= _FAR else 0
