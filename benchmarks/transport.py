"""Warm and cold transport beside POT: iterations and CPU time to one L1 marginal error.

    python benchmarks/transport.py [--quick] [--dimension-only]

Points: Gaussian in 64 dimensions whose k-th deviation is k^-1/2 (x), the same with noise of half
those deviations added (y), rows at length 1, float32, squared L2, ε = 0.25 deviations of the
double-centred cost. Drift p: noise of p times those deviations on both sides. Churn p: that share
of the points replaced. Dimension level: 20,000 items, y a random mixing of x's dimensions with
noise. Every solver gets the points and builds its own cost; CPU time is the process's, on one
thread. Beside ours, in the same run and to the same error, `peers.py`: POT's kernel in torch
and OTT-JAX, warm, to 1e-3 in every cell up to n = 5,000; with 1 % drift and 1 % churn at 10,000
too, cold too, and up to n = 5,000 to 1e-6; at n = 2,000 POT's other solvers and geomloss. The
ratios are CPU times, theirs over ours, at n = 5,000 with 1 % drift and 1 % churn, each the best of
three runs to 1e-3. Who is not installed is named in the row, and the ratio is null.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from peers import Task, absent, geomloss, ott, pot, timed, versions
from torch import Tensor

from model.costs import Cost, squared_l2
from model.couplings import Resumed, resume
from model.dimensions import dimension_cost
from model.kept_coupling import Floats, Ids, WarmStart
from model.transport import Coupling, Problem, solve

TOLERANCES = (1e-3, 1e-6)
DRIFTS, CHURNS = (0.001, 0.01, 0.1), (0.0, 0.01, 0.1)
WIDTH = 64


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
        asked = (drift, churn) == (0.01, 0.01)
        times = 3 if asked and n == 5000 and tolerance == TOLERANCES[0] else 1
        warm, warm_cpu = timed(partial(again, cost, kept, second, tolerance), times)
        problem = warm.coupling.problem
        cold, cold_cpu = timed(partial(afresh, cost, problem, tolerance), times)
        row: dict[str, Any] = {"level": "sample", "n": n, "drift": drift, "churn": churn}
        row |= {"tolerance": tolerance, "warm": warm.coupling.iterations, "cold": cold.iterations}
        row |= {"warm_cpu_s": warm_cpu, "cold_cpu_s": cold_cpu, "cold_because": warm.cold_because}
        row |= {"warm_error": warm.coupling.marginal_error, "cold_error": cold.marginal_error}
        if asked or tolerance == TOLERANCES[0]:
            start = start_of(spaces, kept)
            task = Task(problem, start, tolerance, points=spaces.after, times=times)
            row["peers"] = others(task, n, asked=asked)
        rows.append(row)
        say(json.dumps(row))
    return rows


def start_of(spaces: Spaces, kept: WarmStart) -> tuple[Floats, Floats]:
    """What a peer goes on from: the same potentials, newcomers' at zero."""
    gone = len(kept.source) - len(np.intersect1d(*spaces.ids))
    f, g = (np.concatenate([t[gone:], np.zeros(gone)]) for t in (kept.source, kept.target))
    return f, g


def others(task: Task, n: int, *, asked: bool) -> dict[str, Any]:
    """Who is measured where: see the head of this file."""
    cold = replace(task, start=None)
    runs: dict[str, Callable[[], dict[str, Any]]] = {}
    if n <= 5000 or asked:
        runs["POT torch sinkhorn warm"] = partial(pot, task, "torch", "sinkhorn")
        runs["OTT warm"] = partial(ott, task)
    if asked and n <= 5000:
        runs["POT torch sinkhorn cold"] = partial(pot, cold, "torch", "sinkhorn")
        runs["OTT cold"] = partial(ott, cold)
    if asked and n <= 2000 and task.tolerance == TOLERANCES[0]:
        for kind, method in (
            ("torch", "sinkhorn_log"),
            ("numpy", "sinkhorn"),
            ("numpy", "sinkhorn_log"),
        ):
            for name, one in (("warm", task), ("cold", cold)):
                runs[f"POT {kind} {method} {name}"] = partial(pot, one, kind, method)
        runs["geomloss cold"] = partial(geomloss, cold)
    found: dict[str, Any] = {}
    for name, run in runs.items():
        missing = absent(name.split()[0])
        say(f"  {name}, n = {n}, {task.tolerance}" + (f": {missing}" if missing else ""))
        found[name] = {"absent": missing} if missing else run()
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
        problem, start = warm.coupling.problem, (kept.source, kept.target)
        task = Task(problem, start, tolerance, cost=problem.cost.dense())
        row["peers"] = between_dimensions(task, d)
        rows.append(row)
        say(json.dumps(row))
    return rows


def between_dimensions(task: Task, d: int) -> dict[str, Any]:
    """POT in NumPy, which has float64, and OTT to 1e-3."""
    found = {"POT numpy sinkhorn warm": pot(task, "numpy", "sinkhorn")}
    if task.tolerance == TOLERANCES[0]:
        missing = absent("OTT")
        found["OTT warm"] = {"absent": missing} if missing else ott(task)
    return found


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
    out: dict[str, Any] = {"ratio_pot_torch": None, "ratio_ott": None, "why_null": {}}
    for tolerance, row in asked.items():
        short = f"{tolerance:.0e}".replace("e-0", "e-")
        out[f"warm_iterations_{short}"] = row["warm"]
        for key, peer in (("pot_torch", "POT torch sinkhorn warm"), ("ott", "OTT warm")):
            name = f"ratio_{key}" + ("" if short == "1e-3" else f"_{short}")
            theirs = row["peers"][peer]
            # No ratio of times to different errors.
            reached = theirs.get("error", 1.0) <= tolerance
            out[name] = theirs["cpu_s"] / row["warm_cpu_s"] if reached else None
            if not reached:
                said = f"it came to {theirs['error']:.1e}" if "error" in theirs else ""
                out["why_null"][name] = theirs.get("absent", said)
    return out | versions() | {"rows": rows}


if __name__ == "__main__":
    main()
