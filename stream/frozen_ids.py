"""Ids that came from disk, left as they lie there: found by hash, told apart by their text.

A Python table of ten million strings takes seconds to build, for it is filled in no order of its
memory. Here one sort of 64-bit keys does: a key is an id's hash above and its row below, so that a
few of the lowest bits of the hash are missing, and whoever looks an id up reads the text as well.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, pa

# Nobody who chooses ids knows this: Python draws it anew in each process.
_SALT: Final = np.uint64(hash("goatstream") & 0xFFFF_FFFF_FFFF_FFFF)
_MIX: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_HALF: Final = np.uint64(32)
_WORD: Final = 8  # bytes


def hashes(column: Column) -> NDArray[np.uint64]:
    """A 64-bit hash of each string of an Arrow column of large strings, good for this process.

    Returns
    -------
    uint64[n]
    """
    n = len(column)
    if not n:
        return np.empty(0, np.uint64)
    _, places, content = column.buffers()
    offsets = np.frombuffer(places, np.int64)[column.offset : column.offset + n + 1]
    data = np.frombuffer(content or b"", np.uint8)
    lengths = np.diff(offsets)
    if (lengths == lengths[0]).all():
        shape = (n, int(lengths[0]))
        return _mixed(data[offsets[0] : offsets[-1]].reshape(shape))
    found = np.empty(n, np.uint64)
    order = np.argsort(lengths, kind="stable")
    sizes, begins = np.unique(lengths[order], return_index=True)
    for size, rows in zip(sizes.tolist(), np.split(order, begins[1:]), strict=True):
        found[rows] = _mixed(data[offsets[rows, None] + np.arange(size)])
    return found


def _mixed(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash rows of bytes of one length; uint8[n, l] to uint64[n]."""
    n, length = text.shape
    padded = np.zeros((n, -(-length // _WORD) * _WORD), np.uint8)
    padded[:, :length] = text
    found = np.full(n, _SALT ^ np.uint64(length))
    for word in padded.view(np.uint64).T:
        found ^= word
        found *= _MIX
        found ^= found >> _HALF
    found *= _MIX
    found ^= found >> _HALF
    return found


class FrozenIds:
    """Finds ids in columns that do not change.

    Parameters
    ----------
    parts : columns of large strings, not all of them empty
    """

    def __init__(self, parts: Sequence[Column]) -> None:
        self._parts: list[Column | None] = list(parts)
        self._starts = np.cumsum([0, *map(len, parts)])
        rows = int(self._starts[-1])
        self._low = np.uint64(rows.bit_length())
        self._keys = np.concatenate([hashes(part) for part in parts])
        self._keys >>= self._low
        self._keys <<= self._low
        self._keys |= np.arange(rows, dtype=np.uint64)
        self._keys.sort()

    def find(self, names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        """Which of these names are in a part that is not forgotten: name, part, row of the part."""
        keys, low = self._keys, self._low
        wanted = hashes(pa.array(names, pa.large_string())) >> low
        first = np.searchsorted(keys, wanted << low)
        here = keys[np.minimum(first, len(keys) - 1)] >> low == wanted
        for i in np.flatnonzero(here).tolist():
            at = int(first[i])
            while at < len(keys) and keys[at] >> low == wanted[i]:
                part, row = self._place(keys[at])
                column = self._parts[part]
                if column is not None and column[row].as_py() == names[i]:
                    yield names[i], part, row
                at += 1

    def _place(self, key: np.uint64) -> tuple[int, int]:
        row = int(key) & ((1 << int(self._low)) - 1)
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        return part, row - int(self._starts[part])

    def forget(self, part: int) -> bool:
        """Give back the memory of a part; False once nothing is left."""
        self._parts[part] = None
        return any(column is not None for column in self._parts)
