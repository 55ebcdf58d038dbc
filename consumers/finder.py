"""Searches for a server: several at once, under a deadline, giving ids and scores and no more.

What is known of an item comes from the follower, so that an answer of the index is a few bytes a
candidate; `VectorIndex.search` is for those who want its payload.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consumers.errors import ServerUnavailable
from consumers.index import Conditions, VectorIndex
from stream.deadline import Deadline

Found = list[tuple[str, float]]
"""Ids and scores, best first."""


@dataclass(frozen=True, slots=True)
class Query:
    """One search.

    Attributes
    ----------
    vector : float32[d + 1]
    k : int
    """

    vector: NDArray[np.float32]
    k: int
    conditions: Conditions


class Finder(Protocol):
    """Where candidates are searched for."""

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        """Search by the dot product, all in one call.

        Raises
        ------
        ServerUnavailable
            If no answer came by the deadline.
        PublishError
            If the index refuses, for example because it has no such collection.
        """
        ...

    def holds(self, collection: str, deadline: Deadline) -> bool:
        """Whether the index has this collection.

        Raises
        ------
        ServerUnavailable
            If it does not answer.
        """
        ...

    def close(self) -> None:
        """Give back connections and locks; idempotent."""
        ...


class IndexFinder:
    """A `Finder` over any index; meant for the embedded one, which answers in a millisecond.

    Parameters
    ----------
    index : VectorIndex
    owned : bool
        Whether it is closed with this.
    """

    def __init__(self, index: VectorIndex, *, owned: bool = True) -> None:
        self._index = index
        self._owned = owned

    def find(self, collection: str, queries: Sequence[Query], deadline: Deadline) -> list[Found]:
        return [self._one(collection, query, deadline) for query in queries]

    def _one(self, collection: str, query: Query, deadline: Deadline) -> Found:
        if deadline.passed:
            raise ServerUnavailable(f"{collection}: the time is over before it was searched")
        found = self._index.search(collection, query.vector, query.k, query.conditions)
        return [(candidate.id, candidate.score) for candidate in found]

    def holds(self, collection: str, deadline: Deadline) -> bool:
        return collection in self._index.collections()

    def close(self) -> None:
        if self._owned:
            self._index.close()
