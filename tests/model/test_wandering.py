"""How windows wander: found from streams that do so in a known way, and what follows from it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from model.wandering import Wandering, fit

Floats = NDArray[np.float64]
REFERENCE = 25


def stream(seed: int, windows: int, dim: int, phi: float, moving: float) -> Floats:
    """Features of windows: AR(1) of deviation ``moving``, and noise of deviation 1."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((windows + 200, dim)) * np.sqrt(1 - phi**2)
    centre = np.asarray(lfilter([1.0], [1.0, -phi], steps, axis=0))[200:]
    return 3.0 + moving * centre + rng.standard_normal((windows, dim))


def wandering(phi: float, moving: float, still: float) -> Wandering:
    return Wandering(np.array([phi]), np.array([moving]), np.array([still]), REFERENCE)


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_what_a_stream_does_is_found_in_fifty_windows(phi: float) -> None:
    for seed in range(5):
        found = fit([stream(seed, 50, 64, phi, 1.5)], REFERENCE)
        assert found.persistence[0] == pytest.approx(phi, abs=0.1)
        assert found.moving[0] / 64 == pytest.approx(1.5**2, rel=0.35)
        assert (found.moving + found.still)[0] / 64 == pytest.approx(1.5**2 + 1.0, rel=0.3)


def test_independent_windows_do_not_wander() -> None:
    for seed in range(5):
        found = fit([stream(seed, 50, 64, 0.0, 0.0)], REFERENCE)
        _, share = found.distances()
        assert share[0] < 0.1
        # Of deviation √(2/64) = 0.18 are the logarithms of such distances.
        assert np.abs(found.rise(np.array([25, 26, 50]))).max() < 0.09


def test_distances_rise_as_is_said_of_them_and_resemble_each_other_so() -> None:
    found, windows = wandering(0.9, 64 * 1.5**2, 64.0), 200
    all_of_them = []
    for seed in range(300):
        features = stream(seed, windows, 64, 0.9, 1.5)
        r = features[:REFERENCE].mean(axis=0)
        all_of_them.append(((features[REFERENCE:] - r) ** 2).sum(axis=1))
    distances = np.array(all_of_them)
    said = found.rise(np.arange(REFERENCE, windows))[:, 0]
    seen = np.log(distances.mean(axis=0) / distances[:, 100:].mean())
    assert seen == pytest.approx(said, abs=0.06)
    own = distances - distances.mean(axis=0)
    correlations = found.correlations(10)[0, 0]
    for lag in (1, 3, 6):
        late = own[:, 100:]
        seen_of = (late[:, lag:] * late[:, :-lag]).mean() / (late**2).mean()
        assert seen_of == pytest.approx(correlations[lag], abs=0.06)


def test_nothing_at_all_is_no_wandering() -> None:
    found = fit([np.zeros((20, 3))], 10)
    psi, share = found.distances()
    assert psi[0] == share[0] == 0.0
    assert np.isfinite(found.rise(np.array([10.0]))).all()
