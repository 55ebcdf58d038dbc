"""What the edges of users say that are about to be blanked: for those who have counted them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream.edges import ERASED, SHOWN, EdgeLog, chained


@dataclass(frozen=True, slots=True)
class EdgesLost:
    """Edges of erased users, in order of arrival.

    Attributes
    ----------
    item : int32[n]
    age : int64[n]
        How many edges that were born positive have come since.
    counted : bool[n]
        Whether the edge itself was born positive.
    """

    item: NDArray[np.int32]
    age: NDArray[np.int64]
    counted: NDArray[np.bool_]

    @classmethod
    def none(cls) -> Self:
        """No edge at all."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.bool_))

    @classmethod
    def of(cls, edges: EdgeLog, users: NDArray[np.bool_]) -> Self:
        """All edges of these users, bool[U], that are not blank yet."""
        items: list[NDArray[np.int32]] = []
        places: list[NDArray[np.int64]] = []
        counted: list[NDArray[np.bool_]] = []
        before = 0
        for piece in edges.slices():
            born = chained(piece.kind) & (piece.kind & np.uint8(SHOWN) == 0)
            place = before + np.cumsum(born)
            at = np.flatnonzero(users[piece.user] & (piece.kind != ERASED))
            items.append(piece.item[at])
            places.append(place[at])
            counted.append(born[at])
            before += int(born.sum())
        if not items:
            return cls.none()
        age = before - np.concatenate(places)
        return cls(np.concatenate(items), age, np.concatenate(counted))
