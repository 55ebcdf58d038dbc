"""What is added to an item's own vector: a side each, from something known beside its id.

A side is made anew for each fine-tune and holds what was prepared for it: unit vectors of a
modality, say, or a graph. What it learns are its parameters.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.dimensions import carry, dimension_cost
from model.transport import SHARP, Start, by_newton, pose, solve

EPSILON = 1e-12
"""Length below which a vector counts as zero, in all of the model."""
TOLERANCE = 1e-3
"""Marginal error of couplings while learning: the gradient's error is about as large."""
LIMIT = 100


class Side(nn.Module):
    """Vectors of items in the space of the items."""

    @abstractmethod
    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Rows of these items (int64[n]) or of all, float32[n, d], each as if made with all.

        At length 1; a zero row for an item of which the side knows nothing.
        """

    @abstractmethod
    def into_items(self) -> list[Tensor]:
        """Tensors whose last dimension is d of the items: they turn when the items do."""


class Head(Side):
    """normalise(W·x_i): a modality, seen through a linear map.

    Parameters
    ----------
    weight : float32[t, d]
        W, from the modality's vectors to the space of the items.
    rows : float32[I, t]
        x, at length 1; a zero row for an item without.
    """

    def __init__(self, weight: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.rows = rows

    def images(self, rows: Tensor) -> Tensor:
        """normalise(W·x) of rows x, float32[n, d]."""
        return functional.normalize(rows @ self.weight, eps=EPSILON)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Images of the modality's vectors, float32[n, d]."""
        return self.images(self.rows if ids is None else self.rows.index_select(0, ids))

    def into_items(self) -> list[Tensor]:
        """The map."""
        return [self.weight]


class Carried(Head):
    """normalise(Z·(d·T + Δ)), Z = normalise(W·x): T couples the dimensions of Z with the items'.

    T is found anew from the vectors of the moment (`couple`) and held fixed while they learn.

    Parameters
    ----------
    weight, rows
        Of the head.
    shift : float32[d, d]
        Δ.
    """

    def __init__(self, weight: Tensor, rows: Tensor, shift: Tensor) -> None:
        super().__init__(weight, rows)
        self.shift = nn.Parameter(shift)
        self.plan = torch.zeros_like(shift)  # d·T, float32[d, d]
        self._start: Start | None = None

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Images carried over to the dimensions of the items, float32[n, d]."""
        return functional.normalize(super().vectors(ids) @ (self.plan + self.shift), eps=EPSILON)

    def into_items(self) -> list[Tensor]:
        """Δ and the plan; W leads to dimensions that are coupled with the items', not theirs."""
        return [self.shift, self.plan]

    def couple(self, own: Tensor) -> None:
        """Couple the dimensions as they are now, from where they were coupled before.

        Parameters
        ----------
        own : float32[I, d]
            Items' own vectors, of any length.
        """
        with torch.no_grad():
            has = self.rows.any(1)
            if not has.any():
                return
            z, s = self.images(self.rows[has]), functional.normalize(own[has], eps=EPSILON)
            problem = pose(dimension_cost(z, s), sharpness=SHARP)
            found = solve(problem, self._start, tolerance=TOLERANCE, limit=LIMIT, solver=by_newton)
            self._start = found.potentials
            self.plan = carry(torch.eye(len(self.plan)), found)

    def apart(self, own: Tensor, ids: Tensor) -> Tensor:
        """<d·T, C>: how far the coupled dimensions lie apart on these items, float32[].

        C_kl = ‖Z_k − S_l‖²/n; its gradient is that of the transport value, T being held fixed.

        Parameters
        ----------
        own : float32[n, d]
            Own vectors of the items, of any length.
        ids : int64[n]
        """
        z, s = super().vectors(ids), functional.normalize(own, eps=EPSILON)
        count = z.any(1).sum().clamp(min=1)
        # Rows have length 1 and T the marginals 1/d, so that only the product is not constant.
        return 2.0 - 2.0 * (self.plan * (z.T @ s)).sum() / count
