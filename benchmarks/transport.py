"""Warm and cold transport beside POT: iterations and CPU time to one L1 marginal error.

    python benchmarks/transport.py [--quick] [--dimension-only]

Points: Gaussian in 64 dimensions whose k-th deviation is k^-1/2 (x), the same with noise of half
those deviations added (y), rows at length 1, float32, squared L2, ε = 0.25 deviations of the
double-centred cost. Drift p: noise of p times those deviations on both sides. Churn p: that share
of the points replaced. Dimension level: 20,000 items, y a random mixing of x's dimensions with
noise. Every solver gets the points and builds its own cost; CPU time is the process's, on one
thread. POT's kernel in torch (float32, as ours) runs at 1 % drift with 1 % churn and n <= 5,000,
and at n = 2,000 to 1e-3 its log solver and NumPy too; each is asked for a threshold that is
tightened, at most four times, until its plan has the error asked for, and the time is that of the
last run. Where it never reaches it, its error is in the row. OTT-JAX and geomloss are no
dependencies of this project and are not measured here: `ratio_ott` is null.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from model.costs import Cost, squared_l2
from model.couplings import Ids, Resumed, WarmStart, resume
from model.dimensions import dimension_cost
from model.transport import Coupling, Problem, solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # POT's own source has an invalid escape sequence
    import ot

TOLERANCES = (1e-3, 1e-6)
DRIFTS, CHURNS = (0.001, 0.01, 0.1), (0.0, 0.01, 0.1)
WIDTH = 64
T = TypeVar("T")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def again(
    cost: Callable[[], Cost], kept: WarmStart | None, ids: Ids, tolerance: float = 1e-6
) -> Resumed:
    return resume(cost(), kept, source_ids=ids, target_ids=ids, tolerance=tolerance)


def afresh(cost: Callable[[], Cost], like: Problem, tolerance: float) -> Coupling:
    return solve(Problem(cost(), like.a, like.b, like.epsilon), tolerance=tolerance)


class Spaces:
    """Two spaces of n points before and after a drift with churn."""

    def __init__(self, n: int, drift: float, churn: float) -> None:
        made = torch.Generator().manual_seed(n)
        fresh = round(churn * n)
        scale = torch.arange(1, WIDTH + 1) ** -0.5
        x = scale * torch.randn(n + fresh, WIDTH, generator=made)
        y = x + 0.5 * scale * torch.randn(n + fresh, WIDTH, generator=made)
        self.ids = (np.arange(n), np.arange(fresh, n + fresh))
        moved = [t + drift * scale * torch.randn(t.shape, generator=made) for t in (x, y)]
        self.before = (unit(x[:n]), unit(y[:n]))
        self.after = (unit(moved[0][fresh:]), unit(moved[1][fresh:]))


def sample_level(n: int, drift: float, churn: float) -> list[dict[str, Any]]:
    spaces = Spaces(n, drift, churn)
    rows: list[dict[str, Any]] = []
    first, second = spaces.ids
    kept = again(partial(squared_l2, *spaces.before), None, first).kept
    cost = partial(squared_l2, *spaces.after)
    for tolerance in TOLERANCES:
        warm, warm_cpu = timed(partial(again, cost, kept, second, tolerance))
        cold, cold_cpu = timed(partial(afresh, cost, warm.coupling.problem, tolerance))
        row: dict[str, Any] = {"level": "sample", "n": n, "drift": drift, "churn": churn}
        row |= {"tolerance": tolerance, "warm": warm.coupling.iterations, "cold": cold.iterations}
        row |= {"warm_cpu_s": warm_cpu, "cold_cpu_s": cold_cpu, "cold_because": warm.cold_because}
        row |= {"warm_error": warm.coupling.marginal_error, "cold_error": cold.marginal_error}
        if (drift, churn) == (0.01, 0.01) and n <= 5000:
            row["pot"] = pot(spaces, kept.source, kept.target, warm.coupling.problem, tolerance)
        rows.append(row)
        say(json.dumps(row))
    return rows


def pot(
    spaces: Spaces, f: np.ndarray, g: np.ndarray, problem: Problem, tolerance: float
) -> dict[str, Any]:
    """POT's solvers, cold, and warm from the same potentials (newcomers' at zero)."""
    n = len(f)
    gone = n - len(np.intersect1d(*spaces.ids))
    start = [np.concatenate([t[gone:], np.zeros(gone)]) / problem.epsilon for t in (f, g)]
    # POT's scalings are against the counting measure, ours against the product.
    start = [t - np.log(n) for t in start]
    found: dict[str, Any] = {}
    for method in ("sinkhorn", "sinkhorn_log"):
        for kind in ("torch", "numpy"):
            light = (kind, method) == ("torch", "sinkhorn")
            if not light and (n > 2000 or tolerance < 1e-3):
                continue
            for name, warm in (("warm", start), ("cold", None)):
                say(f"  POT {kind} {method} {name}, n = {n}, {tolerance}")
                found[f"{kind} {method} {name}"] = pot_once(
                    spaces, problem, tolerance, (kind, method), warm
                )
    return found


def pot_once(
    spaces: Spaces,
    problem: Problem,
    tolerance: float,
    how: tuple[str, str],
    start: list[np.ndarray] | None,
) -> dict[str, Any]:
    kind, method = how

    def place(t: Any) -> Any:
        return torch.as_tensor(t).float() if kind == "torch" else np.asarray(t, np.float64)

    x, y = (place(t) for t in spaces.after)
    a, b = place(problem.a), place(problem.b)
    warm = None if start is None else tuple(place(t) for t in start)
    # POT stops on the L2 error of one marginal.
    threshold = tolerance * (2 / len(x)) ** 0.5
    for attempt in count():
        (plan, log), cpu = timed(
            partial(pot_plan, (x, y), (a, b), (problem.epsilon, method, threshold), warm)
        )
        whole = torch.as_tensor(plan).double()
        error = float(
            (whole.sum(1) - problem.a).abs().sum() + (whole.sum(0) - problem.b).abs().sum()
        )
        if error <= tolerance or attempt == 3:
            return {"iterations": int(log["niter"]), "cpu_s": cpu, "error": error}
        threshold /= 2
    raise AssertionError


def pot_plan(
    points: tuple[Any, Any],
    masses: tuple[Any, Any],
    rest: tuple[float, str, float],
    warm: tuple[Any, ...] | None,
) -> tuple[Any, Any]:
    epsilon, method, threshold = rest
    found: tuple[Any, Any] = ot.sinkhorn(
        *masses,
        ot.dist(*points),
        epsilon,
        method=method,
        stopThr=threshold,
        numItermax=1000,
        log=True,
        warn=False,
        warmstart=warm,
    )
    return found


def dimension_level(d: int, drift: float) -> list[dict[str, Any]]:
    made = torch.Generator().manual_seed(d)
    z = torch.randn(20_000, d, generator=made)
    mixing = torch.randn(d, d, generator=made) / d**0.5
    s = z @ mixing + 0.5 * torch.randn(20_000, d, generator=made)
    later = [t + drift * torch.randn(t.shape, generator=made) for t in (z, s)]
    ids = np.arange(d)
    kept = again(partial(dimension_cost, z, s), None, ids).kept
    cost = partial(dimension_cost, *later)
    rows: list[dict[str, Any]] = []
    for tolerance in TOLERANCES:
        warm, cpu = timed(partial(again, cost, kept, ids, tolerance))
        cold, cold_cpu = timed(partial(afresh, cost, warm.coupling.problem, tolerance))
        row: dict[str, Any] = {"level": "dimension", "n": d, "drift": drift, "churn": 0.0}
        row |= {"tolerance": tolerance, "warm": warm.coupling.iterations, "cold": cold.iterations}
        row |= {"warm_cpu_s": cpu, "cold_cpu_s": cold_cpu}
        row |= {"warm_error": warm.coupling.marginal_error, "cold_error": cold.marginal_error}
        rows.append(row)
        say(json.dumps(row))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only 1 % drift with 1 % churn")
    parser.add_argument("--dimension-only", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for d in (64, 200, 800):
        for drift in (0.01,) if options.quick else DRIFTS:
            rows += dimension_level(d, drift)
    for n in (
        () if options.dimension_only else (2000, 5000) if options.quick else (2000, 5000, 10_000)
    ):
        for drift in (0.01,) if options.quick else DRIFTS:
            for churn in (0.01,) if options.quick else CHURNS:
                rows += sample_level(n, drift, churn)
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What was asked at n = 5,000, 1 % drift and 1 % churn; the ratios are those at 1e-3."""
    at = {"level": "sample", "n": 5000, "drift": 0.01, "churn": 0.01}
    asked = {row["tolerance"]: row for row in rows if all(row[k] == v for k, v in at.items())}
    out: dict[str, Any] = {"ratio_ott": None, "ratio_pot_torch": None}
    for tolerance, row in asked.items():
        out[f"warm_iterations_{tolerance:.0e}".replace("e-0", "e-")] = row["warm"]
        theirs = row["pot"]["torch sinkhorn warm"]
        # No ratio of times to different errors: POT in float32 does not come to 1e-6.
        reached = theirs["error"] <= tolerance
        ratio = theirs["cpu_s"] / row["warm_cpu_s"] if reached else None
        out["ratio_pot_torch" if tolerance == 1e-3 else "ratio_pot_torch_1e-6"] = ratio
    return out | {"torch": torch.__version__, "pot": ot.__version__, "rows": rows}


if __name__ == "__main__":
    main()
