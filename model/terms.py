"""What the score adds to the cosine: values, as a version holds them."""

from dataclasses import dataclass

import numpy as np

from model.config import ModelConfig
from model.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Terms:
    """What the score adds to the cosine.

    Attributes
    ----------
    weight : float
        w of the log recent count.
    half_life : float
        Positive events after which a count has halved.
    bias : float
        b, added for an item that was placed by its text and not learned.

    Raises
    ------
    InvalidInput
        A term is not finite, or the half-life not positive.
    """

    weight: float
    half_life: float
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite([self.weight, self.half_life, self.bias]).all() and self.half_life > 0):
            raise InvalidInput(f"{self} are no terms of a score")


def default_terms(config: ModelConfig) -> Terms:
    """The terms of a version that has seen nothing of the stream."""
    return Terms(config.popularity_weight, config.popularity_half_life)
