"""What is kept of a coupling, so that the next, slightly different problem is nearly solved.

Potentials are kept relative to the product measure with their ids. Who left is dropped; who came
gets a potential that is neutral in the double-centred cost, then a few c-transforms restricted to
the newcomers; all are rescaled with the cost. A start that is worth nothing is not used, and the
reason is told.

References
----------
Thornton, Cuturi: Rethinking Initialization of the Sinkhorn Algorithm, AISTATS 2023.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.costs import Cost
from model.errors import InvalidInput
from model.kept_coupling import Ids, WarmStart
from model.kernels import Streamed, soft_rows
from model.transport import SHARP, Coupling, Problem, Solver, Start, pose, solve

SWEEPS = 2
HOLD = 0.1
"""ε is held while the one that the cost asks for is within this share of it."""
SURVIVORS = 0.25
"""Fewer than this share of the points known on either side: nothing to go on from."""
STALE = 0.9
"""Share of the mass that a first half-step may move; more, and the start is not used."""
_SAMPLE = 256
"""Rows that are looked at for what is only an estimate."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A coupling, what is kept of it, and whether it went on from an earlier one.

    Attributes
    ----------
    cold_because : str or None
        Why it started from nothing; None when the kept potentials were used.
    """

    coupling: Coupling
    kept: WarmStart
    cold_because: str | None


def resume(
    cost: Cost,
    kept: WarmStart | None,
    *,
    source_ids: Ids,
    target_ids: Ids,
    sharpness: float = SHARP,
    a: Tensor | None = None,
    b: Tensor | None = None,
    tolerance: float = 1e-6,
    limit: int = 2000,
    solver: Solver | None = None,
) -> Resumed:
    """Solve a balanced problem from what was kept of the one before it.

    Raises
    ------
    TransportFailed
        As `pose` and `solve`; kept potentials that are not finite are refused, not skipped.
    InvalidInput
        There is not one different id a point.
    """
    _check_ids(cost, source_ids, target_ids)
    asked = pose(cost, sharpness=sharpness, a=a, b=b)
    problem = pose(cost, epsilon=held_epsilon(asked, kept), a=asked.a, b=asked.b)
    start, reason = begin(problem, kept, source_ids, target_ids)
    coupling = solve(problem, start, tolerance=tolerance, limit=limit, solver=solver)
    return Resumed(coupling, keep(coupling, source_ids, target_ids, start), reason)


def held_epsilon(asked: Problem, kept: WarmStart | None) -> float:
    """ε with hysteresis: the kept one while it is within `HOLD` of the one asked for."""
    if kept is None or asked.spread <= 0 or kept.spread <= 0:
        return asked.epsilon
    return kept.epsilon if abs(kept.epsilon / asked.epsilon - 1) <= HOLD else asked.epsilon


def begin(
    problem: Problem, kept: WarmStart | None, source_ids: Ids, target_ids: Ids
) -> tuple[Start | None, str | None]:
    """Place kept potentials on a problem's rows and columns, or say why not."""
    if kept is None:
        return None, "nothing was kept"
    if not (kept.spread > 0 and problem.spread > 0):
        return None, "a cost without interaction has no scale to carry over"
    stay_f, from_f = _matched(source_ids, kept.source_ids)
    stay_g, from_g = _matched(target_ids, kept.target_ids)
    share = min(stay_f.mean(), stay_g.mean())
    if share < SURVIVORS:
        return None, f"only {share:.0%} of the points were there before"
    device, epsilon = problem.a.device, problem.epsilon
    ratio = problem.spread / kept.spread
    # A change of scale within the hysteresis is drift, not a change of unit.
    ratio = 1.0 if kept.epsilon == epsilon else ratio
    phi, psi = (torch.zeros(len(ids), dtype=torch.float64) for ids in (source_ids, target_ids))
    phi[torch.from_numpy(stay_f)] = torch.from_numpy(kept.source[from_f] * ratio / epsilon)
    psi[torch.from_numpy(stay_g)] = torch.from_numpy(kept.target[from_g] * ratio / epsilon)
    new = [torch.from_numpy(np.flatnonzero(~stay)).to(device) for stay in (stay_f, stay_g)]
    phi, psi = _placed(problem, phi.to(device), psi.to(device), new[0], new[1])
    found = Start(phi * epsilon, psi * epsilon, kept.contraction)
    stale = _stale(problem, phi, psi)
    return (None, stale) if stale else (found, None)


def keep(
    coupling: Coupling, source_ids: Ids, target_ids: Ids, start: Start | None = None
) -> WarmStart:
    """Take what the next problem needs; ``start`` is where this one began."""
    before = (None, None) if start is None else (start.source, start.target)
    f, g = (t.cpu().numpy() for t in (coupling.source, coupling.target))
    was_f, was_g = (
        np.full(len(now), np.nan) if t is None else t.cpu().numpy()
        for t, now in zip(before, (f, g), strict=True)
    )
    return WarmStart(
        source_ids=source_ids,
        target_ids=target_ids,
        source=f,
        target=g,
        source_mass=coupling.problem.a.cpu().numpy(),
        target_mass=coupling.problem.b.cpu().numpy(),
        source_before=was_f,
        target_before=was_g,
        epsilon=coupling.problem.epsilon,
        spread=coupling.problem.spread,
        contraction=coupling.contraction,
        error=coupling.marginal_error,
    )


def _placed(
    problem: Problem, phi: Tensor, psi: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Give newcomers what is neutral in the double-centred cost, then sweep over them alone.

    A c-transform against those who stayed puts them far off where newcomers belong together.
    """
    cost, epsilon = problem.cost, problem.epsilon
    log_a, log_b = problem.a.log(), problem.b.log()
    if len(columns):
        few = slice(0, None, max(1, len(phi) // _SAMPLE))
        level = cost.take(few, slice(None)).dense().double().mean(0) / epsilon
        known = torch.ones(len(psi), dtype=torch.bool, device=psi.device)
        known[columns] = False
        psi[columns] = level[columns] + (psi - level)[known].mean()
    for _ in range(SWEEPS):
        if len(rows):
            phi[rows] = -soft_rows(cost.take(rows, slice(None)), log_b + psi, epsilon)
        if len(columns):
            narrow = cost.take(slice(None), columns).transposed()
            psi[columns] = -soft_rows(narrow, log_a + phi, epsilon)
    return phi, psi


def _stale(problem: Problem, phi: Tensor, psi: Tensor) -> str | None:
    """Compare the start with none, on some of the rows: what a first half-step would move."""
    if not bool(torch.isfinite(phi).all() & torch.isfinite(psi).all()):
        return None  # the solver refuses it, loudly
    step = max(1, len(phi) // _SAMPLE)
    few = slice(0, None, step)
    sums = Streamed(problem.cost.take(few, slice(None)), problem.a[few], problem.b, problem.epsilon)
    off = float((problem.a[few] * torch.expm1(phi[few] + sums.rows(psi)).abs().clamp_max(1)).sum())
    off /= float(problem.a[few].sum())
    return f"stale: a first half-step moves {off:.2f} of the mass" if off > STALE else None


def _matched(ids: Ids, known: Ids) -> tuple[NDArray[np.bool_], Ids]:
    """Which ids are known, and where."""
    if not len(known):
        return np.zeros(len(ids), np.bool_), np.zeros(0, np.int64)
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known, ids, sorter=order)
    place = order[np.minimum(at, len(known) - 1)]
    stay = known[place] == ids
    return stay, place[stay]


def _check_ids(cost: Cost, source_ids: Ids, target_ids: Ids) -> None:
    for name, ids, n in zip(
        ("source", "target"), (source_ids, target_ids), cost.shape, strict=True
    ):
        if ids.shape != (n,) or len(np.unique(ids)) != n:
            raise InvalidInput(f"{name} ids must be {n} different numbers")
