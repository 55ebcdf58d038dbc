"""The Triton kernel of `model.fused`; imported where it is going to run.

References
----------
Milakov, Gimelshein: Online normalizer calculation for softmax, 2018.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

triton: Any = import_module("triton")  # untyped, and not there beside a torch without CUDA
tl: Any = import_module("triton.language")

# Triton reads a kernel's annotations too, and compiles no names but its own.
if TYPE_CHECKING:
    given: TypeAlias = Any
    constexpr: TypeAlias = int
else:
    given, constexpr = tl.tensor, tl.constexpr


def row_sums(
    left: given,
    right: given,
    weights: given,
    top: given,
    total: given,
    n: given,
    m: given,
    k: given,
    ROWS: constexpr,
    COLUMNS: constexpr,
    DEPTH: constexpr,
    PRECISION: constexpr,
) -> None:
    """Maximum and sum of 2^(w_j + <left_i, right_j>) over j, for ``ROWS`` rows a program."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # Offsets of a million rows of many dimensions pass 2^31.
    row = left + at[:, None].to(tl.int64) * k
    high = tl.full((ROWS,), float("-inf"), tl.float32)
    sums = tl.zeros((ROWS,), tl.float64)
    for start in range(0, m, COLUMNS):
        to = start + tl.arange(0, COLUMNS)
        column = right + to[None, :].to(tl.int64) * k
        inner = tl.zeros((ROWS, COLUMNS), tl.float32)
        for first in range(0, k, DEPTH):
            some = first + tl.arange(0, DEPTH)
            x = tl.load(row + some[None, :], (at[:, None] < n) & (some[None, :] < k), 0.0)
            y = tl.load(column + some[:, None], (to[None, :] < m) & (some[:, None] < k), 0.0)
            inner = tl.dot(x, y, inner, input_precision=PRECISION)
        weight = tl.load(weights + to, to < m, float("-inf"))
        exponent = inner + weight[None, :]
        higher = tl.maximum(high, tl.max(exponent, 1))
        tile = tl.sum(tl.exp2(exponent - higher[:, None]), 1)
        sums = sums * tl.exp2(high - higher).to(tl.float64) + tile.to(tl.float64)
        high = higher
    tl.store(top + at, high, at < n)
    tl.store(total + at, sums, at < n)


compiled: Any = triton.jit(row_sums)
