"""The stored kernel's answer to a cost, as arrays, with what is kept of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import transport
from model.costs import Given
from model.couplings import begin, keep
from model.kept_coupling import Floats, WarmStart
from model.transport import Coupling, by_kernel, pose


@dataclass(frozen=True)
class Answer:
    """A coupling as arrays, and what is kept of it."""

    coupling: Coupling
    potentials: WarmStart
    plan: Floats

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coupling, name)


def solve(
    cost: Floats,
    *,
    start: WarmStart | None = None,
    source_ids: NDArray[np.int64] | None = None,
    target_ids: NDArray[np.int64] | None = None,
    source_mass: Floats | None = None,
    target_mass: Floats | None = None,
    tolerance: float = 1e-6,
    limit: int = 2000,
    **scale: Any,
) -> Answer:
    """Sinkhorn on the stored kernel in float64."""
    a, b = (None if t is None else torch.from_numpy(t) for t in (source_mass, target_mass))
    problem = pose(Given(torch.from_numpy(cost)), a=a, b=b, **scale)
    rows = np.arange(cost.shape[0]) if source_ids is None else source_ids
    columns = np.arange(cost.shape[1]) if target_ids is None else target_ids
    place, _ = begin(problem, start, rows, columns)
    found = transport.solve(problem, place, tolerance=tolerance, limit=limit, solver=by_kernel)
    return Answer(found, keep(found, rows, columns), found.plan().numpy())
