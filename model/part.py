"""The items that a step of learning needs, where they are few of many."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE = 0.5
"""Part of the items beyond which all are encoded: gathering the rows would cost what it saves."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the items, and their numbers among these.

    Attributes
    ----------
    ids : int64[n], ascending, or None
        None stands for all, under their own numbers.
    places : int64[I]
        Number of each item among ``ids``; empty for all.
    """

    ids: Tensor | None
    places: NDArray[np.int64]

    def local(self, items: NDArray[np.integer]) -> Tensor:
        """Their numbers in the part, int64 of the same shape; what is negative stays."""
        numbers = items.astype(np.int64)
        if self.ids is not None:
            numbers = np.where(numbers < 0, numbers, self.places[numbers])
        return torch.from_numpy(numbers)


ALL = Part(None, np.zeros(0, np.int64))
"""All items."""


def part_of(items: int, *needed: NDArray[np.integer]) -> Part:
    """The part of ``items`` items that holds all that are needed; negative numbers are none."""
    wanted = np.zeros(items, np.bool_)
    for some in needed:
        wanted[some[some >= 0]] = True
    ids = np.flatnonzero(wanted)
    if len(ids) > SHARE * items:
        return ALL
    return Part(torch.from_numpy(ids), np.cumsum(wanted) - 1)
