"""How far a window of vectors is from a reference: three distances, each as a logarithm.

The reference is brought to mean 0 and deviation 1 in each coordinate, the window by the same map.
With x the window's rows, y the reference's:

* sliced: mean over directions θ of W₂²(θ·x, θ·y), by quantiles;
* mean: ‖mean x − mean y‖²;
* kernel: ‖mean φ(x) − mean φ(y)‖², φ random Fourier features of a Gaussian kernel.

Logarithms, for the deviation of such a distance grows with it: of its logarithm it is about the
same for every population.

References
----------
Bonneel et al.: Sliced and Radon Wasserstein Barycenters of Measures, 2015. Rahimi, Recht: Random
Features for Large-Scale Kernel Machines, 2007. Gretton et al.: A Kernel Two-Sample Test, 2012.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InvalidInput

NAMES = ("sliced", "mean", "kernel")
DIRECTIONS = 64
LEVELS = 64
"""Quantiles of a slice, at the middle of as many equal parts."""
FEATURES = 64
_TINY = 1e-12
_FLAT = 1e-6
"""A coordinate of less deviation than this share of the largest one's is left as wide as that."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows in the reference's units, as the three distances want them.

    Attributes
    ----------
    sliced : float32[L, n]
        Along each direction.
    mean : float32[n, d]
    kernel : float32[n, 2R]
    """

    sliced: NDArray[np.float32]
    mean: NDArray[np.float32]
    kernel: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.mean)


class Reference:
    """What windows are held against.

    Parameters
    ----------
    rows : float[m, d]
        At least two, finite.
    rng : Generator
        Draws directions and frequencies.

    Raises
    ------
    InvalidInput
        There are fewer rows, or one is not finite.
    """

    def __init__(self, rows: NDArray[np.floating], rng: np.random.Generator) -> None:
        given = _checked(rows, None)
        if len(given) < 2:
            raise InvalidInput(f"a reference of {len(given)} rows: at least 2 are needed")
        self.dim = given.shape[1]
        self._centre = given.mean(axis=0)
        wide = given.std(axis=0)
        self._scale = np.where(wide > _FLAT * wide.max(), wide, wide.max() or 1.0)
        slices = rng.standard_normal((self.dim, 1 if self.dim == 1 else DIRECTIONS))
        self._slices = (slices / np.linalg.norm(slices, axis=0)).astype(np.float32)
        # The median distance of two rows of d coordinates of deviation 1 is about √(2d).
        frequencies = rng.standard_normal((self.dim, FEATURES)) / np.sqrt(2.0 * self.dim)
        self._frequencies = frequencies.astype(np.float32)
        own = self.prepare(given)
        self._quantiles = _quantiles(np.sort(own.sliced, axis=1))
        self._kernel = own.kernel.mean(axis=0, dtype=np.float64)

    def prepare(self, rows: NDArray[np.floating]) -> Prepared:
        """Rows, float[n, d], in the reference's units.

        Raises
        ------
        InvalidInput
            They are of another length than the reference's, or one is not finite.
        """
        # Near 0 by now, so that single precision does.
        x = ((_checked(rows, self.dim) - self._centre) / self._scale).astype(np.float32)
        phase = x @ self._frequencies
        kernel = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
        return Prepared(np.ascontiguousarray((x @ self._slices).T), x, kernel)

    def distances(self, rows: NDArray[np.floating]) -> Floats:
        """Logarithms of the three distances of a window, float64[3], in the order of `NAMES`."""
        whole = self.stretches(self.prepare(rows), np.zeros(1, np.int64), len(rows))
        return whole.reshape(len(NAMES))

    def stretches(self, prepared: Prepared, starts: NDArray[np.int64], length: int) -> Floats:
        """Likewise of each stretch of ``length`` rows that begins at ``starts``, float64[s, 3]."""
        out = np.empty((len(starts), len(NAMES)))
        for row, start in enumerate(starts.tolist()):
            sliced, mean, kernel = self._features(prepared, slice(start, start + length))
            out[row, 0] = ((sliced - self._quantiles) ** 2).mean()
            out[row, 1] = (mean**2).sum()
            out[row, 2] = ((kernel - self._kernel) ** 2).sum() / FEATURES
        return np.log(np.maximum(out, _TINY))

    def features(
        self, prepared: Prepared, starts: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.floating], ...]:
        """What the three distances compare, of each stretch, flat: three of float[s, p]."""
        parts = [self._features(prepared, slice(at, at + length)) for at in starts.tolist()]
        return tuple(np.stack([one.ravel() for one in kind]) for kind in zip(*parts, strict=True))

    def _features(
        self, prepared: Prepared, part: slice
    ) -> tuple[NDArray[np.float32], Floats, Floats]:
        """Quantiles of the slices, mean, and mean kernel features."""
        return (
            _quantiles(np.sort(prepared.sliced[:, part], axis=1)),
            prepared.mean[part].mean(axis=0, dtype=np.float64),
            prepared.kernel[part].mean(axis=0, dtype=np.float64),
        )


def _quantiles(ordered: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantiles of rows that are sorted, float32[L, n] to float32[L, LEVELS], interpolated."""
    n = ordered.shape[1]
    at = np.clip((np.arange(LEVELS) + 0.5) / LEVELS * n - 0.5, 0, n - 1)
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)
    high = np.minimum(low + 1, n - 1)
    between: NDArray[np.float32] = ordered[:, low] * (1 - share) + ordered[:, high] * share
    return between


def _checked(rows: NDArray[np.floating], dim: int | None) -> Floats:
    given = np.asarray(rows, np.float64)
    if given.ndim != 2 or (dim is not None and given.shape[1] != dim):
        raise InvalidInput(f"rows of shape {given.shape}: [n, {dim or 'd'}] was expected")
    if not np.isfinite(given).all():
        raise InvalidInput("a row is not finite: leave it out, and count it")
    return given
