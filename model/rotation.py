"""How far the space has turned from one version to the next, and turning it back.

Scores are dot products: the same rotation of all items turns every user along and changes nothing.
But readers that hold users of one version against items of another see nonsense if the space has
turned between the two. Within each of the encoder's groups of dimensions a rotation is free (each
group has weights of its own, so groups may not mix).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Turn:
    """Evidence of how vectors moved between two versions.

    Attributes
    ----------
    rows : int
        Items that both versions have learned.
    moved : float
        Root mean square of the distance of an item's two vectors (2 at most).
    residual : float
        The same after the best rotation: what no rotation explains.
    degrees : float
        Root mean square of the angles of that rotation.
    """

    rows: int
    moved: float
    residual: float
    degrees: float


def rotation(
    vectors: NDArray[np.float32], onto: NDArray[np.float32], groups: int
) -> NDArray[np.float64]:
    """The orthogonal maps that bring the vectors nearest to others, float64[H, k, k].

    R_h minimises ‖X_h·R_h − Y_h‖_F over orthogonal matrices, k = d/H: the orthogonal Procrustes
    problem, solved by the singular vectors of X_hᵀY_h.

    Parameters
    ----------
    vectors, onto : float32[n, d]
        The same items in two spaces.
    groups : int
        H, a divisor of d.

    Raises
    ------
    InvalidInput
        The shapes differ, or d does not divide into the groups.

    References
    ----------
    Schönemann: A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966.
    """
    if vectors.shape != onto.shape or vectors.ndim != 2 or vectors.shape[1] % groups:
        raise InvalidInput(
            f"expected two tables [n, d] with d a multiple of {groups}, got {vectors.shape} and"
            f" {onto.shape}"
        )
    left, right = (_split(rows.astype(np.float64), groups) for rows in (vectors, onto))
    u, _, vt = np.linalg.svd(np.einsum("nhi,nhj->hij", left, right))
    found: NDArray[np.float64] = u @ vt
    return found


def turned(rows: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of d numbers under such a rotation, float32[n, d]."""
    parts = np.einsum("nhi,hij->nhj", _split(rows, len(by)), by)
    joined: NDArray[np.float32] = parts.reshape(rows.shape).astype(np.float32)
    return joined


def measure(vectors: NDArray[np.float32], before: NDArray[np.float32], groups: int) -> Turn:
    """Compare the same items' vectors, float32[n, d] each, in two versions."""
    by = rotation(vectors, before, groups)
    angles = np.angle(np.linalg.eigvals(by))
    return Turn(
        rows=len(vectors),
        moved=_apart(vectors, before),
        residual=_apart(turned(vectors, by), before),
        degrees=float(np.degrees(np.sqrt(np.mean(angles**2)))),
    )


def _split(rows: NDArray[np.floating], groups: int) -> NDArray[np.floating]:
    return rows.reshape(len(rows), groups, rows.shape[1] // groups)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if not len(one):
        return 0.0
    return float(np.sqrt(np.mean(np.sum((one - other) ** 2, axis=1))))
