"""Other people's transport on the problems of `transport.py`: POT, OTT-JAX, geomloss.

Everyone gets the points in float32 (POT's NumPy solvers float64; between dimensions the finished
cost) and the ε, builds its own cost, and is asked for a threshold that is tightened, at most four
times, until the plan, summed in float64, has the L1 marginal error asked for; the time is the
process's CPU time of the last run. Where that is not reached in 300 iterations the error is in
the row. Warm starts are the peers' own, from the potentials that ours starts from, newcomers at
zero. OTT-JAX runs on its kernel (as fast here as with a cost of ours or momentum, faster than its
logarithms), compiled beforehand, on one thread; geomloss has no warm start and no stopping rule:
its iterations are doubled. These two come with the extra ``bench``.
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.transport import Problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # POT's own source has an invalid escape sequence
    import ot

# Read when JAX starts.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ATTEMPTS = 4
LIMIT = 300
T = TypeVar("T")
Floats = NDArray[np.float64]
Run = Callable[[float], tuple[Any, int]]
"""From a threshold to a plan and the iterations it took."""


@dataclass(frozen=True)
class Task:
    """A problem for a peer.

    Attributes
    ----------
    points : (float32[n, k], float32[n, k]) or None
    cost : float64[n, n] or None
        One of the two.
    problem : Problem
        Masses and ε.
    start : (float64[n], float64[n]) or None
        f and g, against the product measure, in units of the cost.
    tolerance : float
        L1, both marginals.
    times : int
        Runs, of which the quickest counts.
    """

    problem: Problem
    start: tuple[Floats, Floats] | None
    tolerance: float
    points: tuple[Tensor, Tensor] | None = None
    cost: Tensor | None = None
    times: int = 1


def timed(work: Callable[[], T], times: int = 1) -> tuple[T, float]:
    """What work gives, and the CPU time of its quickest run in seconds."""
    begun = time.process_time()
    found = work()
    cpu = time.process_time() - begun
    return found, cpu if times == 1 else min(cpu, timed(work, times - 1)[1])


def absent(name: str) -> str | None:
    """Why a peer is not measured."""
    if name == "POT" or find_spec(name.lower()) is not None:
        return None
    return f"{name} is not installed: pip install 'goatstream[bench]'"


def versions() -> dict[str, str | None]:
    """What was measured; None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in ("torch", "POT", "ott-jax", "jax", "geomloss"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def reach(run: Run, task: Task, threshold: float) -> dict[str, Any]:
    """Tighten the threshold until the plan fits."""
    problem, found = task.problem, dict[str, Any]()
    for _ in range(ATTEMPTS):
        (plan, iterations), cpu = timed(partial(run, threshold), task.times)
        whole = torch.as_tensor(np.asarray(plan)).double()
        off = (whole.sum(1) - problem.a).abs().sum() + (whole.sum(0) - problem.b).abs().sum()
        found = {"iterations": iterations, "cpu_s": cpu, "error": float(off)}
        # POT counts from 0.
        if float(off) <= task.tolerance or iterations >= LIMIT - 1:
            break
        threshold /= 2
    return found


def pot(task: Task, kind: str, method: str) -> dict[str, Any]:
    """``kind``: torch or numpy; ``method``: sinkhorn or sinkhorn_log."""

    def place(t: Any) -> Any:
        return torch.as_tensor(t).float() if kind == "torch" else np.asarray(t, np.float64)

    points = task.points and [place(t) for t in task.points]
    a, b, epsilon = place(task.problem.a), place(task.problem.b), task.problem.epsilon
    n = len(a)
    solver: Any = ot.sinkhorn
    # POT's scalings are against the counting measure, ours against the product.
    logs = task.start and tuple(place(t / epsilon - np.log(n)) for t in task.start)

    def run(threshold: float) -> tuple[Any, int]:
        plan, log = solver(
            a,
            b,
            ot.dist(*points) if points else place(task.cost),
            epsilon,
            method=method,
            stopThr=threshold,
            numItermax=LIMIT,
            log=True,
            warn=False,
            warmstart=logs,
        )
        return plan, int(log["niter"])

    # POT stops on the L2 error of one marginal.
    return reach(run, task, task.tolerance * (2 / n) ** 0.5)


def ott(task: Task) -> dict[str, Any]:
    """Its Sinkhorn on a point cloud, which stops on the L1 error that it looks at every 5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax, geometry, pointcloud, problems, sinkhorn = (
            cast(Any, import_module(name))
            for name in (
                "jax",
                "ott.geometry.geometry",
                "ott.geometry.pointcloud",
                "ott.problems.linear.linear_problem",
                "ott.solvers.linear.sinkhorn",
            )
        )

    def place(t: Any) -> Any:
        return jax.numpy.asarray(np.asarray(t, np.float32))

    a, b, epsilon = place(task.problem.a), place(task.problem.b), task.problem.epsilon
    n = len(a)
    # Its scalings are against the counting measure too.
    start = task.start or (np.full(n, epsilon * np.log(n)),) * 2
    init = tuple(place(np.exp(t / epsilon) / n) for t in start)
    given = tuple(place(t) for t in task.points or (task.cost,))

    def work(given: Any, init: Any, threshold: float) -> tuple[Any, Any]:
        if len(given) == 2:
            space = pointcloud.PointCloud(*given, epsilon=epsilon)
        else:
            space = geometry.Geometry(cost_matrix=given[0], epsilon=epsilon)
        solver = sinkhorn.Sinkhorn(
            lse_mode=False, threshold=threshold, inner_iterations=5, max_iterations=LIMIT
        )
        out = solver(problems.LinearProblem(space, a, b), init)
        return out.matrix, out.n_iters

    compiled = jax.jit(work).lower(given, init, 1e-3).compile()

    def run(threshold: float) -> tuple[Any, int]:
        plan, iterations = jax.block_until_ready(compiled(given, init, threshold))
        return plan, int(iterations)

    return reach(run, task, task.tolerance / 2)


def geomloss(task: Task) -> dict[str, Any]:
    """Its solver on points, tensorized, asked for 8, 16, ... 512 iterations."""
    theirs: Any = import_module("geomloss.ot")
    assert task.points is not None
    x, y = task.points
    iterations, found = 8, dict[str, Any]()
    while iterations <= 512:

        def run(_: float, iterations: int = iterations) -> tuple[Any, int]:
            solved = theirs.solve_sample(x, y, reg=task.problem.epsilon, max_iter=iterations)
            return solved.plan, iterations

        found = reach(run, task, task.tolerance)
        if found["error"] <= task.tolerance:
            break
        iterations *= 2
    return found
