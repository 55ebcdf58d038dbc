"""The terms of the score, set from the stream.

A version has not learned the events that came after it. Before a fine-tune learns from them, a
sample of them is ranked by that version as it was served, under a grid of terms: a validation by
what came next, with the same encoder and the same filter of what the user has had. Evidence is kept
from round to round and fades.

Weight and half-life are those that are surest to be better than the configuration's: the highest
mean gain less one standard error. The bias is the boldest that is not surely worse over all
questions than the best one, and for which learned items pay no more than a set part: only what is
shown can be learned of, so what is as good shows more of the new.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.asked import Round
from model.config import ModelConfig
from model.data import Features, Interactions
from model.evidence import Calibration, Evidence, nothing
from model.state import ModelState, terms_of
from model.terms import Terms

_CELLS = 1 << 24
"""Scores in a round's sample: fewer events are ranked where there are many items."""
_HIDDEN = -1.0
"""A bias under which no cosine is high enough."""
_OWN = 7
"""Beside the seed: what is learned does not depend on what is tried."""


def calibrate(
    data: Interactions,
    previous: ModelState,
    features: Mapping[str, Features],
    config: ModelConfig,
    seed: int,
) -> Calibration:
    """Terms for the next version, from how the previous one would have ranked what came after it.

    Parameters
    ----------
    data : Interactions
        Positive events, those that the previous version has not learned among them.
    features : name -> Features
        Vectors by modality, a row per item.
    """
    kept = previous.calibration
    popularity = _go_on(None if kept is None else kept.popularity, _pairs(config))
    novelty = _go_on(None if kept is None else kept.novelty, biases(config))
    warm = _go_on(None if kept is None else kept.warm, biases(config))
    served, rng = terms_of(kept, config), np.random.default_rng([seed, _OWN])
    most = min(config.calibration_events, max(1, _CELLS // max(data.items, 1)))
    after = Round(data, previous, features, served, config)
    rows = after.sample(most, rng)
    by_pair, by_bias = after.gains(rows, popularity.tried, novelty.tried)
    popularity = popularity.more(by_pair - by_pair[:, :1], config.calibration_memory)
    if after.places:
        new = after.of_placed(rows)
        novelty, warm = more_of_novelty(novelty, warm, by_bias, new, config.calibration_memory)
    weight, half_life = popularity.surest.tolist()
    terms = Terms(weight, half_life, boldest(novelty, warm, config))
    return Calibration(terms, popularity, novelty, warm)


def more_of_novelty(
    novelty: Evidence,
    warm: Evidence,
    by_bias: NDArray[np.float64],
    new: NDArray[np.bool_],
    memory: float,
) -> tuple[Evidence, Evidence]:
    """Take in what questions gained under each bias, float64[q, n]; new tells whose was placed."""
    over = by_bias - by_bias[:, :1]
    had = max(float(by_bias[~new, 0].mean()), 1e-9) if not new.all() else 1.0
    return novelty.more(over, memory), warm.more(over[~new] / had, memory)


def boldest(novelty: Evidence, warm: Evidence, config: ModelConfig) -> float:
    """The highest bias that is not surely worse than the best, nor too dear for learned items."""
    if not novelty.questions:
        return 0.0
    fair = novelty.mean + novelty.error >= novelty.mean.max()
    fair &= warm.mean >= -config.novelty_price
    return float(novelty.tried[fair, 0].max(initial=_HIDDEN))


def _pairs(config: ModelConfig) -> NDArray[np.float64]:
    """Weights and half-lives to try, the configuration's own first, float64[n, 2]."""
    own = (config.popularity_weight, config.popularity_half_life)
    tried = {own: None, (0.0, config.popularity_half_life): None}
    for weight in config.popularity_weights:
        tried |= {(weight, h): None for h in config.popularity_half_lives if weight}
    return np.array(list(tried), np.float64)


def biases(config: ModelConfig) -> NDArray[np.float64]:
    """Biases to try, one that hides what is new first, float64[n, 1]."""
    return np.array(list(dict.fromkeys((_HIDDEN, *config.novelty_biases))), np.float64)[:, None]


def _go_on(kept: Evidence | None, tried: NDArray[np.float64]) -> Evidence:
    """What was known, if it is known of the same alternatives."""
    return kept if kept is not None and np.array_equal(kept.tried, tried) else nothing(tried)
