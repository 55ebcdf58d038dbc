"""Items that a version knows and has not learned: where they go, and what is expected of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.cold import Placed, place
from model.config import ModelConfig
from model.data import Features, Interactions
from model.evidence import Calibration
from model.state import ModelState, terms_of
from model.text_map import fit_map


def with_arrivals(
    state: ModelState,
    data: Interactions,
    features: Mapping[str, Features],
    calibration: Calibration | None,
    config: ModelConfig,
) -> ModelState:
    """The state with its unlearned items placed, under the terms that the stream speaks for.

    Parameters
    ----------
    data : Interactions
        Positive events.
    """
    counts = recent_counts(data, terms_of(calibration, config).half_life)
    placed = among(features, state.learned, ~state.learned, state.items, counts, config=config)
    items = np.where(state.learned[:, None], state.items, placed.vectors)
    expected = placed.counts.astype(np.float32)
    return replace(state, items=items, calibration=calibration, expected=expected)


def among(
    features: Mapping[str, Features],
    learned: NDArray[np.bool_],
    new: NDArray[np.bool_],
    vectors: NDArray[np.float32],
    counts: NDArray[np.float64],
    *,
    config: ModelConfig,
) -> Placed:
    """Place the new items among the learned ones, by the first modality that each has.

    Parameters
    ----------
    features : name -> Features of I items
    learned, new : bool[I]
    vectors : float32[I, d]
    counts : float64[I]

    Returns
    -------
    Placed
        Of all I items; zero for those that are not new.
    """
    out = Placed(np.zeros_like(vectors), np.zeros(len(vectors)))
    left = new.copy()
    for given in features.values():
        known, coming = given.present & learned, given.present & left
        if known.any() and coming.any():
            rows = given.normalised()
            warm = (rows[known], vectors[known], counts[known])
            by = fit_map(*warm[:2]) if config.cold_map else None
            found = place(rows[coming], *warm, epsilon=config.cold_epsilon, by=by)
            out.vectors[coming], out.counts[coming] = found.vectors, found.counts
            left &= ~coming
    return out


def recent_counts(data: Interactions, half_life: float) -> NDArray[np.float64]:
    """Decayed counts of the items' positive events as of the last one, float64[I]."""
    order = np.argsort(data.sequence[data.positive], kind="stable")
    items = data.item[data.positive][order]
    age = np.arange(len(items))[::-1] / half_life
    return np.bincount(items, np.exp2(-age), minlength=data.items).astype(np.float64)
