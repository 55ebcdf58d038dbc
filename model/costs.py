"""Costs of transport, known block by block: the n x m matrix is built only where it fits.

References
----------
Feydy: Geometric data analysis, beyond convolutions, 2020 (costs that are never stored).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.errors import TransportFailed

TILE = 2048
"""Rows and columns of a block: 16 MiB in float32, whatever n and m are."""


class Cost(Protocol):
    """A cost C between n sources and m targets.

    ``shape`` is (n, m); ``sample`` is a tensor of the cost's dtype and device.
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def sample(self) -> Tensor: ...
    def take(self, rows: Tensor | slice, columns: Tensor | slice) -> "Cost": ...
    def transposed(self) -> "Cost": ...
    def dense(self) -> Tensor:
        """C, [n, m]; differentiable where the points are."""
        ...

    def exponent(
        self, left: Tensor, right: Tensor, epsilon: float, out: Tensor | None = None
    ) -> Tensor:
        """left_i + right_j − C_ij/ε, [n, m], fresh or in ``out``; left, right float64[n], [m]."""
        ...

    def spread(self) -> float:
        """Standard deviation of the double-centred cost: what couplings depend on."""
        ...

    def detached(self) -> "Cost": ...


@dataclass(frozen=True, slots=True)
class Given:
    """A cost matrix, [n, m]."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def sample(self) -> Tensor:
        """A tensor of the cost's dtype and device."""
        return self.values

    def take(self, rows: Tensor | slice, columns: Tensor | slice) -> "Given":
        return Given(self.values[rows][:, columns])

    def transposed(self) -> "Given":
        return Given(self.values.T)

    def dense(self) -> Tensor:
        return self.values

    def exponent(
        self, left: Tensor, right: Tensor, epsilon: float, out: Tensor | None = None
    ) -> Tensor:
        kind = self.values.dtype
        made: Tensor = torch.div(self.values, -epsilon, out=out)
        return made.add_(left.to(kind)[:, None]).add_(right.to(kind)[None, :])

    def spread(self) -> float:
        top = float(self.values.abs().max())
        if top == 0.0:
            return 0.0
        return top * _deviation(Given(self.values / top))

    def detached(self) -> "Given":
        return Given(self.values.detach())


@dataclass(frozen=True, slots=True)
class Bilinear:
    """C_ij = row_i + column_j − factor·<left_i, right_j>, from one GEMM a block.

    Attributes
    ----------
    left, right : [n, k], [m, k]
    row, column : [n], [m]
    factor : float
    """

    left: Tensor
    right: Tensor
    row: Tensor
    column: Tensor
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return len(self.left), len(self.right)

    @property
    def sample(self) -> Tensor:
        """A tensor of the cost's dtype and device."""
        return self.left

    def take(self, rows: Tensor | slice, columns: Tensor | slice) -> "Bilinear":
        return Bilinear(
            self.left[rows], self.right[columns], self.row[rows], self.column[columns], self.factor
        )

    def transposed(self) -> "Bilinear":
        return Bilinear(self.right, self.left, self.column, self.row, self.factor)

    def dense(self) -> Tensor:
        inner = self.left @ self.right.T
        return self.row[:, None] + self.column[None, :] - self.factor * inner

    def exponent(
        self, left: Tensor, right: Tensor, epsilon: float, out: Tensor | None = None
    ) -> Tensor:
        # Both vectors ride in the GEMM as two more dimensions, without a pass of their own.
        kind = self.left.dtype
        alpha = (left - self.row.double() / epsilon).to(kind)[:, None]
        beta = (right - self.column.double() / epsilon).to(kind)[:, None]
        rows = torch.cat([self.left * (self.factor / epsilon), alpha, torch.ones_like(alpha)], 1)
        columns = torch.cat([self.right, torch.ones_like(beta), beta], 1)
        return rows @ columns.T if out is None else torch.mm(rows, columns.T, out=out)

    def spread(self) -> float:
        """O((n + m)·k²): the centred cost is −factor·<left − mean, right − mean>."""
        rows, columns = ((t - t.mean(0)).double() for t in (self.left, self.right))
        n, m = self.shape
        square = float(((rows.T @ rows / n) * (columns.T @ columns / m)).sum())
        # What is left of points without variance is rounding error.
        rounding = 1e-12 if self.left.dtype == torch.float64 else 1e-6
        size = self.factor * float(self.left.norm(dim=1).max() * self.right.norm(dim=1).max())
        deviation = self.factor * max(square, 0.0) ** 0.5
        return deviation if deviation > rounding * size else 0.0

    def detached(self) -> "Bilinear":
        left, right, row, column = (
            t.detach() for t in (self.left, self.right, self.row, self.column)
        )
        return Bilinear(left, right, row, column, self.factor)


@dataclass(frozen=True, slots=True)
class Distance:
    """The root of a squared distance: plain L2."""

    square: Bilinear

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self.square.shape

    @property
    def sample(self) -> Tensor:
        """A tensor of the cost's dtype and device."""
        return self.square.left

    def take(self, rows: Tensor | slice, columns: Tensor | slice) -> "Distance":
        return Distance(self.square.take(rows, columns))

    def transposed(self) -> "Distance":
        return Distance(self.square.transposed())

    def dense(self) -> Tensor:
        # Of points that coincide rounding is left, of either sign, and its root is not small. What
        # is set to the floor has gradient 0, where that of the root is infinite.
        square, limits = self.square, torch.finfo(self.sample.dtype)
        rounding = 4.0 * square.left.shape[1] ** 0.5 * limits.eps
        size = (square.row[:, None] + square.column[None, :]).detach()
        values = square.dense()
        return torch.where(values > rounding * size, values, limits.tiny).sqrt()

    def exponent(
        self, left: Tensor, right: Tensor, epsilon: float, out: Tensor | None = None
    ) -> Tensor:
        return Given(self.dense()).exponent(left, right, epsilon, out)

    def spread(self) -> float:
        return _deviation(self)

    def detached(self) -> "Distance":
        return Distance(self.square.detached())


def squared_l2(x: Tensor, y: Tensor) -> Bilinear:
    """‖x_i − y_j‖², x [n, k], y [m, k]."""
    _check(x, y)
    # Couplings do not see a common translation; float32 does.
    centre = (x.detach().mean(0) + y.detach().mean(0)) / 2
    x, y = x - centre, y - centre
    return Bilinear(x, y, (x * x).sum(1), (y * y).sum(1), 2.0)


def l2(x: Tensor, y: Tensor) -> Distance:
    """‖x_i − y_j‖, x [n, k], y [m, k]."""
    return Distance(squared_l2(x, y))


def cosine(x: Tensor, y: Tensor) -> Bilinear:
    """1 − cos(x_i, y_j), x [n, k], y [m, k]; a zero row is at cost 1 from everything."""
    _check(x, y)
    x, y = (torch.nn.functional.normalize(t, dim=1) for t in (x, y))
    return Bilinear(x, y, torch.ones_like(x[:, 0]), torch.zeros_like(y[:, 0]), 1.0)


def tiles(n: int, m: int, tile: int = TILE) -> Iterator[tuple[slice, slice]]:
    """Blocks that cover n x m, row by row."""
    for top in range(0, n, tile):
        for start in range(0, m, tile):
            yield slice(top, min(top + tile, n)), slice(start, min(start + tile, m))


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not (len(x) and len(y)):
        raise TransportFailed(
            f"points must be [n, k] and [m, k], got {[*x.shape]} and {[*y.shape]}"
        )


def _deviation(cost: "Given | Distance") -> float:
    """Two passes over the blocks, summed in float64."""
    n, m = cost.shape
    device = cost.sample.device
    rows = torch.zeros(n, dtype=torch.float64, device=device)
    columns = torch.zeros(m, dtype=torch.float64, device=device)
    largest = 0.0
    for at, to in tiles(n, m):
        block = cost.take(at, to).dense().detach().double()
        rows[at] += block.sum(1) / m
        columns[to] += block.sum(0) / n
        largest = max(largest, float(block.abs().max()))
    mean, square = rows.mean(), 0.0
    for at, to in tiles(n, m):
        block = cost.take(at, to).dense().detach().double()
        block = block - rows[at, None] - columns[None, to] + mean
        square += float((block * block).sum())
    # What is left of a cost without interaction is rounding error.
    rounding = 1e-12 if cost.sample.dtype == torch.float64 else 1e-6
    deviation = float((square / (n * m)) ** 0.5)
    return deviation if deviation > rounding * largest else 0.0
