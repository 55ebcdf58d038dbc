"""Names to dense numbers: what the graph stores is int32, what the world says is strings."""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray


class Vocabulary:
    """An append-only table of names; a name's number never changes and is never given twice.

    An erased name leaves an empty string behind (no valid id is empty). Should it come again, it
    gets a new number: nothing links the two.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = list(names)
        self._numbers = {name: i for i, name in enumerate(self._names) if name}
        self._erased: list[int] = []

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    @property
    def names(self) -> Sequence[str]:
        """Every name by its number; ``""`` where it was erased. Do not modify."""
        return self._names

    @property
    def erased(self) -> Sequence[int]:
        """Numbers erased since `mark_saved`."""
        return self._erased

    def intern(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Numbers of these names, new ones added in order.

        Parameters
        ----------
        names : n strings

        Returns
        -------
        int32[n]
        """
        found = self.find(names)
        for i in np.flatnonzero(found < 0).tolist():
            number = self._numbers.setdefault(names[i], len(self._names))
            if number == len(self._names):
                self._names.append(names[i])
            found[i] = number
        return found

    def find(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Numbers of these names, -1 where unknown; adds nothing.

        Returns
        -------
        int32[n]
        """
        return np.fromiter(map(self._numbers.get, names, repeat(-1)), np.int32, len(names))

    def name(self, number: int) -> str:
        """The name with this number; ``""`` where it was erased."""
        return self._names[number]

    def erase(self, name: str) -> int:
        """Forget a name; give the number it had, -1 if it is unknown."""
        number = self._numbers.pop(name, -1)
        if number >= 0:
            self._names[number] = ""
            self._erased.append(number)
        return number

    def mark_saved(self) -> None:
        """What was erased so far is on disk."""
        self._erased.clear()
