"""A one-dimensional array that grows: per-user and per-item state without a limit set at start."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

T = TypeVar("T", bound=np.generic)

_FIRST = 1_024


class Growing(Generic[T]):
    """Values by index, doubled when they run out; new places hold ``fill``.

    Parameters
    ----------
    dtype : DTypeLike
    fill : int
        What a place holds until it is written.
    """

    def __init__(self, dtype: type[T], fill: int = 0) -> None:
        self._fill = fill
        self._dtype: DTypeLike = dtype
        self.data: NDArray[T] = np.full(_FIRST, fill, dtype)

    def reserve(self, n: int) -> NDArray[T]:
        """Make places 0 .. n - 1 exist and give the whole array, which may be longer.

        The array is replaced when it grows: never keep it over a call that may reserve.
        """
        if n > len(self.data):
            grown: NDArray[T] = np.full(max(n, 2 * len(self.data)), self._fill, self._dtype)
            grown[: len(self.data)] = self.data
            self.data = grown
        return self.data
