"""Coupling the dimensions of two spaces that describe the same items.

With items as rows of Z, S [I, d], dimension k of Z and l of S are ‖Z_k − S_l‖²/I apart. What a
coupling sees of that, double-centred, is −2·ZᵀS/I: one GEMM, not an I x d x d tensor.
"""

from torch import Tensor

from model.costs import Given
from model.errors import TransportFailed
from model.transport import Coupling


def dimension_cost(z: Tensor, s: Tensor) -> Given:
    """Double-centred −2·ZᵀS/I, float64[d, e], of Z [I, d] and S [I, e]."""
    if z.ndim != 2 or s.ndim != 2 or len(z) != len(s) or not len(z):
        raise TransportFailed(f"spaces of the same items, got {[*z.shape]} and {[*s.shape]}")
    cost = (-2.0 / len(z)) * (z.T @ s).double()
    return Given(cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean())


def carry(z: Tensor, coupling: Coupling) -> Tensor:
    """Z·(d·T), [I, e]: each new dimension a mean of the old ones.

    T has mass 1, so its columns sum to 1/d: without the factor what is carried would be d times
    too short beside anything that is added to it.
    """
    scale = float(coupling.problem.b.numel())
    return scale * coupling.apply_transposed(z.T).T
