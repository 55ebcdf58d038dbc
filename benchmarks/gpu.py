"""Shares of what a GPU can do: the fused half-step of transport, and propagation.

    python benchmarks/gpu.py

Half-step: `model.fused.soft_rows` on n = 10k, 100k and 1M points in 64 dimensions against as many;
``share_of_exp`` is n² exponentials a second over what a kernel of nothing but exponentials reaches
on the same GPU; ``error`` is the largest deviation from float64 on 1,000 rows. Propagation: one hop
over 10M edges, d = 64; ``share_of_bandwidth`` is the bytes that it has to move at least (pointers,
columns and values once, a source row an edge, a result row a node) over what a copy reaches.
Without CUDA it says so: no figure of it has been taken on a GPU so far.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from model.costs import squared_l2
from model.fused import soft_rows
from model.kernels import soft_rows as reference
from model.propagation import csr

WIDTH = 64
EPSILON = 30.0


def seconds(work: Callable[[], Any], times: int = 5) -> float:
    """Median by CUDA's own events, after one call that compiles."""
    cuda: Any = torch.cuda
    work()
    taken: list[float] = []
    for _ in range(times):
        begun, ended = (cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        cuda.synchronize()
        taken.append(begun.elapsed_time(ended) / 1e3)
    return float(np.median(taken))


def half_steps(bound: float) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for n in (10_000, 100_000, 1_000_000):
        made = torch.Generator("cuda").manual_seed(n)
        x, y = (torch.randn(n, WIDTH, device="cuda", generator=made) for _ in range(2))
        weights = torch.zeros(n, dtype=torch.float64, device="cuda")
        cost = squared_l2(x, y)
        taken = seconds(partial(soft_rows, cost, weights, EPSILON), 3)
        few = slice(0, 1000)
        exact = reference(
            squared_l2(x.double(), y.double()).take(few, slice(None)), weights, EPSILON
        )
        off = (soft_rows(cost.take(few, slice(None)), weights, EPSILON) - exact).abs().max()
        rows.append({"n": n, "seconds": taken, "error": float(off)})
        rows[-1]["share_of_exp"] = n * n / taken / bound
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def exponentials() -> float:
    """Exponentials a second of a kernel that does nothing else."""
    kernel: Any = import_module("exponentials").compiled
    programs, side, rounds = 8192, 1024, 1024
    out = torch.empty(programs * side, device="cuda")
    taken = seconds(lambda: kernel[(programs,)](out, ROUNDS=rounds, SIDE=side))
    return programs * side * rounds / taken


def propagation() -> dict[str, float]:
    nodes, edges = 1_000_000, 10_000_000
    rng = np.random.default_rng(0)
    row, column = np.sort(rng.integers(nodes, size=edges)), rng.integers(nodes, size=edges)
    matrix = csr(row, column, np.ones(edges), (nodes, nodes)).cuda()
    z = torch.randn(nodes, WIDTH, device="cuda")
    taken = seconds(lambda: matrix @ z)
    source, target = (torch.empty(1 << 28, device="cuda") for _ in range(2))
    copied = 2 * source.nbytes / seconds(lambda: target.copy_(source))
    moved = 8 * (nodes + 1) + 12 * edges + 4 * WIDTH * (edges + nodes)
    return {
        "seconds": taken,
        "bandwidth": copied,
        "share_of_bandwidth": moved / taken / copied,
    }


def main() -> None:
    if not torch.cuda.is_available() or find_spec("triton") is None:
        print(json.dumps({"device": None, "reason": "no CUDA with Triton on this machine"}))
        return
    bound = exponentials()
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(),
                "exponentials_per_s": bound,
                "half_steps": half_steps(bound),
                "propagation": propagation(),
            }
        )
    )


if __name__ == "__main__":
    main()
