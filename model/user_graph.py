"""Where a user with few events starts: among the users who prefer alike.

Users are neighbours by the cosine of their embedded preferences. One of n events is served as
normalise(u + n₀/(n₀ + n)·p): u the fold-in of its own events, p = Σ_j α_j u_j over the k
nearest users, α a softmax of the cosines over a temperature. NumPy only: the fast path looks p up.

A profile counts for what comes after it was made, in event time and in place of the stream.

References
----------
Li et al.: RecGOAT, arXiv 2602.00682, its user-user graph.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.data import unit_rows
from model.errors import InvalidInput
from model.neighbours import search


@dataclass(frozen=True, slots=True)
class Profiled:
    """Users that were described, and from where on that may be used.

    Attributes
    ----------
    user : int64[P]
        Numbers, ascending.
    until_us : int64[P]
        Event time of the last event that each profile was made from.
    next_sequence : int64[P]
        Place in the stream of the first event that it was not made from.
    vectors : float32[P, t]
        Embedded preferences; their lengths do not matter.
    """

    user: NDArray[np.int64]
    until_us: NDArray[np.int64]
    next_sequence: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {len(self.until_us), len(self.next_sequence), len(self.vectors)}
        if lengths != {len(self.user)}:
            raise InvalidInput(f"{len(self.user)} users came with columns of {sorted(lengths)}")
        if (np.diff(self.user) <= 0).any():
            raise InvalidInput("users must ascend")

    def __getitem__(self, rows: NDArray[np.int64]) -> "Profiled":
        """Some of them, by row, ascending."""
        return Profiled(
            self.user[rows], self.until_us[rows], self.next_sequence[rows], self.vectors[rows]
        )


@dataclass(frozen=True, slots=True)
class UserGraph:
    """What the neighbours of each described user say of it.

    Attributes
    ----------
    profiled : Profiled
    prior : float32[P, d]
        p, the shorter the less the neighbours agree; zero for a user without neighbours.
    half : float
        n₀, own events at which the neighbours count for half.
    """

    profiled: Profiled
    prior: NDArray[np.float32]
    half: float

    @classmethod
    def of(
        cls,
        profiled: Profiled,
        vectors: NDArray[np.float32],
        *,
        neighbours: int,
        temperature: float,
        half: float,
    ) -> Self:
        """Look for everybody's neighbours among those that have a vector of their own.

        Parameters
        ----------
        vectors : float32[P, d]
            Fold-ins of the described users; zero rows for those without events.
        neighbours : int
            k.
        temperature : float
            Of the softmax, in units of the cosine.
        half : float

        Raises
        ------
        InvalidInput
            There is not one vector per user, or a number is not positive.
        """
        if len(vectors) != len(profiled.user):
            raise InvalidInput(f"{len(vectors)} vectors of {len(profiled.user)} described users")
        if neighbours < 1 or temperature <= 0 or half <= 0:
            raise InvalidInput(
                f"{neighbours} neighbours, temperature {temperature} and n₀ {half}: all above zero"
            )
        said = unit_rows(profiled.vectors)
        tells = np.abs(said).max(axis=1, initial=0) > 0
        warm = np.flatnonzero(tells & (np.abs(vectors).max(axis=1, initial=0) > 0))
        place = np.full(len(vectors), -1, np.int64)
        place[warm] = np.arange(len(warm))
        near, cosine = search(said, said[warm], neighbours, leave_out=place)
        # Less the largest, so that a sharp softmax of small cosines does not vanish.
        sharp = np.exp((cosine - cosine[:, :1]).astype(np.float64) / temperature)
        weight = np.where((near >= 0) & tells[:, None], sharp, 0.0)
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
        prior = np.zeros_like(vectors)
        for column, share in zip(near.T, weight.T, strict=True):
            some = np.flatnonzero(column >= 0)
            prior[some] += share[some, None].astype(np.float32) * vectors[warm[column[some]]]
        return cls(profiled, prior, half)

    def begin(
        self,
        own: NDArray[np.float32],
        *,
        user: NDArray[np.integer],
        events: NDArray[np.int64],
        time_us: NDArray[np.int64],
        sequence: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Fold-ins with what the neighbours say, float32[n, d] at length 1.

        Parameters
        ----------
        own : float32[n, d]
        user : int[n]
        events : int64[n]
            How many events each fold-in is made of.
        time_us, sequence : int64[n]
            Event time and place in the stream of what each vector is asked for.

        Returns
        -------
        As given where a user is not described, or its profile was not made before.
        """
        profiled = self.profiled
        row = np.searchsorted(profiled.user, user)
        row[row == len(profiled.user)] = 0
        out = own.copy()
        if not len(profiled.user):
            return out
        usable = (
            (profiled.user[row] == user)
            & (profiled.until_us[row] < time_us)
            & (profiled.next_sequence[row] <= sequence)
        )
        some = np.flatnonzero(usable)
        weight = (self.half / (self.half + events[some])).astype(np.float32)
        mixed = own[some] + weight[:, None] * self.prior[row[some]]
        out[some] = unit_rows(mixed.astype(np.float32))
        return out
