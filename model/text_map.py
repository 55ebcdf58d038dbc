"""Vectors of new items from a linear map, fitted to the vectors that the warm items learned.

W = argmin Σ_j ‖(x_j − x̄)·W + z̄ − z_j‖² + λ‖W‖², with the λ of the least error when each warm
item is left out in turn (exact for ridge regression: its residual over 1 − its leverage). A new
item's vector is p/√‖p‖ of its prediction p = (x − x̄)·W + z̄: what the text says little of stays
shorter, and so lower in everybody's ranking. NumPy only, a product of t x d a new item.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""λ tried, for rows of length 1."""
LEAST = 0.01
"""Part of the variance that must be explained of items left out; else the text says nothing."""


@dataclass(frozen=True, slots=True)
class TextMap:
    """From texts to vectors.

    Attributes
    ----------
    weight : float64[t, d]
    origin : float64[t]
        x̄.
    mean : float64[d]
        z̄.
    penalty : float
    explained : float
        R² over warm items left out, against the mean of the others.
    """

    weight: NDArray[np.float64]
    origin: NDArray[np.float64]
    mean: NDArray[np.float64]
    penalty: float
    explained: float

    def vectors(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of items with these texts, float32[n, d] from float32[n, t] at length 1."""
        predicted = (text - self.origin) @ self.weight + self.mean
        length = np.linalg.norm(predicted, axis=1, keepdims=True)
        vectors: NDArray[np.float32] = (predicted / np.sqrt(np.maximum(length, 1e-12))).astype("f4")
        return vectors


def fit_map(text: NDArray[np.float32], vectors: NDArray[np.float32]) -> TextMap | None:
    """Fit the map on warm items; None where it explains nothing of an item left out.

    Parameters
    ----------
    text : float32[m, t], at length 1
    vectors : float32[m, d]
    """
    m = len(text)
    if m < 2:
        return None
    origin, mean = text.mean(0, dtype=np.float64), vectors.mean(0, dtype=np.float64)
    x, z = text - origin, vectors - mean
    values, basis = np.linalg.eigh(x.T @ x)
    turned = x @ basis
    target, squares = turned.T @ z, turned**2
    alone = float(((z * (m / (m - 1))) ** 2).sum())
    best: TextMap | None = None
    for penalty in PENALTIES:
        factor = 1.0 / (np.maximum(values, 0.0) + penalty)
        inner = target * factor[:, None]
        left_out = (z - turned @ inner) / (1.0 - 1.0 / m - squares @ factor)[:, None]
        explained = 1.0 - float((left_out**2).sum()) / max(alone, 1e-12)
        if explained > (LEAST if best is None else best.explained):
            best = TextMap(basis @ inner, origin, mean, penalty, explained)
    return best
