"""Whether two versions are the same to the last bit, and where they part if not."""

import hashlib

import numpy as np
from safetensors.numpy import save

from model.state import ModelState
from model.version import tensors


def first_difference(made: ModelState, stored: ModelState) -> str | None:
    """Name the first tensor (by name) in which two states differ in any bit, and by how much.

    Returns
    -------
    str or None
        None where all are equal.
    """
    counts = {"trained_upto": (made.trained_upto, stored.trained_upto)}
    counts["steps"] = made.steps, stored.steps
    for name, (got, expected) in counts.items():
        if got != expected:
            return f"{name} is {got}, stored is {expected}"
    mine, theirs = tensors(made), tensors(stored)
    if mine.keys() != theirs.keys():
        return f"tensors {sorted(mine.keys() ^ theirs.keys())} are in one of the two only"
    for name in sorted(mine):
        a, b = mine[name], theirs[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{name} is {a.dtype}{list(a.shape)}, stored is {b.dtype}{list(b.shape)}"
        if a.tobytes() != b.tobytes():
            bits = a.reshape(-1).view(np.uint8).reshape(a.size, -1)
            other = b.reshape(-1).view(np.uint8).reshape(b.size, -1)
            at = np.flatnonzero((bits != other).any(axis=1))
            first = int(at[0])
            return (
                f"{name} differs in {len(at):,} of {a.size:,} numbers, first in number {first}: "
                f"{a.reshape(-1)[first]!r}, stored is {b.reshape(-1)[first]!r}"
            )
    return None


def digest(state: ModelState) -> str:
    """SHA-256 of the file that a state's tensors would be stored in."""
    return hashlib.sha256(save(tensors(state))).hexdigest()
