"""A half-step of Sinkhorn on a GPU in one kernel: no block of the cost ever leaves the chip.

log Σ_j exp(w_j − C_ij/ε) for costs C_ij = row_i + column_j − factor·<left_i, right_j>. A program
holds a few rows and walks over the columns: a product of two tiles, its exponential, a running
maximum and sum. Tiles are summed in float32, what they sum to in float64. Needs Triton, which
torch brings along where it knows CUDA; `TRITON_INTERPRET=1` runs it without a GPU, slowly.

References
----------
Milakov, Gimelshein: Online normalizer calculation for softmax, 2018.
Feydy: Geometric data analysis, beyond convolutions, 2020.
"""

import math
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeGuard

import torch
from torch import Tensor

from model.costs import Bilinear, Cost

ROWS, COLUMNS, DEPTH = 64, 64, 64
"""Sides of a tile: rows of a program, columns of a step, dimensions of a partial product."""
PRECISION = "tf32x3"
"""Three products on tensor cores, which together keep float32's digits."""


def serves(cost: Cost) -> TypeGuard[Bilinear]:
    """Whether there is a kernel for this cost where it is: float32 on CUDA, with Triton."""
    sample = cost.sample
    here = sample.is_cuda and sample.dtype == torch.float32
    return here and isinstance(cost, Bilinear) and find_spec("triton") is not None


def soft_rows(cost: Bilinear, log_weights: Tensor, epsilon: float) -> Tensor:
    """log Σ_j exp(w_j − C_ij/ε), float64[n].

    Parameters
    ----------
    cost : Bilinear
        float32, its points [n, k] and [m, k].
    log_weights : float64[m]
    epsilon : float
    """
    n, m = cost.shape
    # Powers of two are what the chip has an instruction for.
    left = (cost.left * (cost.factor / epsilon * math.log2(math.e))).contiguous()
    right = cost.right.contiguous()
    weights = (log_weights - cost.column.double() / epsilon) * math.log2(math.e)
    # The level goes on in float64; float32 has only to tell the weights apart.
    level = weights.max()
    top = torch.empty(n, dtype=torch.float32, device=left.device)
    total = torch.empty(n, dtype=torch.float64, device=left.device)
    k = left.shape[1]
    kernel: Any = import_module("model.fused_kernel").compiled
    kernel[(-(-n // ROWS),)](
        left,
        right,
        (weights - level).float(),
        top,
        total,
        n,
        m,
        k,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        DEPTH=min(DEPTH, max(16, 1 << (k - 1).bit_length())),
        PRECISION=PRECISION,
        enable_fp_fusion=True,
    )
    found = (top.double() + total.log2() + level) * math.log(2.0)
    return found - cost.row.double() / epsilon
