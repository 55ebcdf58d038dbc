"""The k nearest rows of each row by cosine: exact where that is cheap, else over an index.

A table of all pairs is never held. Exact search goes block by block; a search of more pairs than
`EXACT` is done over an HNSW graph (usearch), built and asked by one thread, so that the same rows
give the same neighbours. From one table to the next only what is new or has changed is searched
for, exactly as long as that stays below `EXACT`: no index is kept, see docs/decisions.

References
----------
Malkov, Yashunin: Efficient and robust approximate nearest neighbor search using Hierarchical
Navigable Small World graphs, 2018.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

EXACT = 20_000**2
"""Pairs that are compared one by one in a search; beyond, they are found over an index."""
_BLOCK = 1 << 22
"""Cosines held at a time (16 MB)."""
_CONNECTIVITY, _ADDING, _SEARCHING = 16, 128, 96
"""Of the index: edges a node, and candidates followed while it is built and asked."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of each of I rows, the nearest first; never a row itself.

    Attributes
    ----------
    ids : int32[I, k]
        -1 where there are fewer than k.
    cosine : float32[I, k]
        0 where there is none.
    stamp : uint32[I]
        Checksum of each row that was compared, 0 for one that is all zero.
    """

    ids: NDArray[np.int32]
    cosine: NDArray[np.float32]
    stamp: NDArray[np.uint32]

    def __post_init__(self) -> None:
        shape = self.ids.shape
        if len(shape) != 2 or self.cosine.shape != shape or self.stamp.shape != shape[:1]:
            raise InvalidInput(
                f"neighbours {shape} came with {self.cosine.shape} cosines and"
                f" {self.stamp.shape} stamps"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def k(self) -> int:
        """Neighbours a row."""
        return int(self.ids.shape[1])


def nearest(
    rows: NDArray[np.float32], k: int, previous: Neighbours | None = None, *, exact: int = EXACT
) -> Neighbours:
    """Nearest rows of every row, going on from the table of some of them.

    Parameters
    ----------
    rows : float32[I, t]
        At length 1. An all-zero row is not there: it has no neighbours and is nobody's.
    k : int
    previous : Neighbours
        Of the first rows of these; some may have changed since, which their checksums tell.
        With another k all is searched anew.
    exact : int
        Pairs compared one by one, at most.

    Raises
    ------
    InvalidInput
        k is not positive, or the previous table has more rows.
    """
    if k < 1:
        raise InvalidInput(f"{k} neighbours: at least one")
    stamp = _stamps(rows)
    ids = np.full((len(rows), k), -1, np.int32)
    cosine = np.zeros((len(rows), k), np.float32)
    moved = stamp > 0
    again = moved
    if previous is not None and previous.k == k:
        had = len(previous)
        if had > len(rows):
            raise InvalidInput(f"neighbours of {had} rows, of which {len(rows)} are left")
        ids[:had], cosine[:had] = previous.ids, previous.cosine
        moved = stamp != np.concatenate([previous.stamp, np.zeros(len(rows) - had, np.uint32)])
        again = moved | (moved[ids] & (ids >= 0)).any(axis=1)
    there = np.flatnonzero(stamp)
    if int(again.sum()) * len(there) > exact:
        again = stamp > 0
        moved = again
    ids[again], cosine[again] = -1, 0
    todo = np.flatnonzero(again & (stamp > 0))
    position = np.searchsorted(there, todo)
    found, cosine[todo] = search(rows[todo], rows[there], k, leave_out=position, exact=exact)
    ids[todo] = np.where(found >= 0, there[found], -1) if len(there) else found
    kept = np.flatnonzero(~again & (stamp > 0))
    _merge(rows, ids, cosine, kept, np.flatnonzero(moved & (stamp > 0)))
    return Neighbours(ids, cosine, stamp)


def search(
    queries: NDArray[np.float32],
    among: NDArray[np.float32],
    k: int,
    *,
    leave_out: NDArray[np.int64] | None = None,
    exact: int = EXACT,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest of some rows to each query: int32[n, k] their numbers, float32[n, k] cosines.

    Parameters
    ----------
    queries : float32[n, t]
        At length 1.
    among : float32[m, t]
        At length 1.
    leave_out : int64[n]
        One row that is not to be found by each query, itself as a rule; -1 for none.
    exact : int
        Pairs compared one by one, at most.

    Returns
    -------
    The nearest first; -1 and 0 where there are fewer than k.
    """
    n, m = len(queries), len(among)
    out = np.full(n, -1, np.int64) if leave_out is None else leave_out
    if n * m > exact:
        return _approximate(queries, among, k, out)
    ids = np.full((n, k), -1, np.int32)
    cosine = np.zeros((n, k), np.float32)
    step = max(1, _BLOCK // max(m, 1))
    for start in range(0, n, step):
        part = slice(start, start + step)
        block = queries[part] @ among.T
        itself = np.flatnonzero(out[part] >= 0)
        block[itself, out[part][itself]] = -np.inf
        ids[part], cosine[part] = _best(block, k)
    return ids, cosine


def _best(
    block: NDArray[np.float32], k: int, names: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k largest of each row, of equals those of the smaller number; -inf is not there."""
    width = min(k, block.shape[1])
    ids = np.full((len(block), k), -1, np.int32)
    cosine = np.zeros((len(block), k), np.float32)
    if not width:
        return ids, cosine
    at = np.argpartition(-block, width - 1, axis=1)[:, :width]
    value = np.take_along_axis(block, at, 1)
    label = (at if names is None else np.take_along_axis(names, at, 1)).astype(np.int32)
    order = np.lexsort((label, -value), axis=1)
    value, label = np.take_along_axis(value, order, 1), np.take_along_axis(label, order, 1)
    real = np.isfinite(value)
    ids[:, :width] = np.where(real, label, -1)
    cosine[:, :width] = np.where(real, value, 0)
    return ids, cosine


def _merge(
    rows: NDArray[np.float32],
    ids: NDArray[np.int32],
    cosine: NDArray[np.float32],
    kept: NDArray[np.int64],
    entrants: NDArray[np.int64],
) -> None:
    """Let new rows into the tables of those that were not searched for, in place."""
    step = max(1, _BLOCK // max(len(kept), 1))
    for start in range(0, len(entrants), step):
        new = entrants[start : start + step]
        block = rows[kept] @ rows[new].T
        bar = np.where(ids[kept, -1] < 0, -np.inf, cosine[kept, -1])
        better = np.flatnonzero(block.max(axis=1, initial=-np.inf) > bar)
        at = kept[better]
        old = np.where(ids[at] < 0, -np.inf, cosine[at]).astype(np.float32)
        named = np.broadcast_to(new.astype(np.int32), (len(at), len(new)))
        ids[at], cosine[at] = _best(
            np.concatenate([old, block[better]], axis=1),
            ids.shape[1],
            np.concatenate([ids[at], named], axis=1),
        )


def _approximate(
    queries: NDArray[np.float32],
    among: NDArray[np.float32],
    k: int,
    leave_out: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    from usearch.index import (
        BatchMatches,
        Index,
    )  # a native library that a small catalogue does without

    index = Index(
        ndim=among.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_ADDING,
        expansion_search=_SEARCHING,
    )
    # With more threads the order of insertion, and so the result, would differ by the run.
    index.add(np.arange(len(among), dtype=np.uint64), among, threads=1)
    ids = np.full((len(queries), k), -1, np.int32)
    cosine = np.zeros((len(queries), k), np.float32)
    step = max(1, _BLOCK // (among.shape[1] * (k + 1)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        found = index.search(queries[part], k + 1, threads=1)
        near = np.atleast_2d(found.keys).astype(np.int64)
        counts = found.counts if isinstance(found, BatchMatches) else np.array([len(found)])
        missing = np.arange(near.shape[1]) >= counts[:, None]
        near[missing] = 0
        exactly = np.einsum("nt,nkt->nk", queries[part], among[near])
        exactly[missing | (near == leave_out[part, None])] = -np.inf
        ids[part], cosine[part] = _best(exactly, k, near.astype(np.int32))
    return ids, cosine


def _stamps(rows: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Checksums, 0 for all-zero rows and for no other."""
    stamps = np.zeros(len(rows), np.uint32)
    for at in np.flatnonzero(np.abs(rows).max(axis=1, initial=0)).tolist():
        stamps[at] = max(crc32(rows[at].tobytes()), 1)
    return stamps
