"""What a fine-tune leaves behind, as arrays: what is served and what the next one goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.errors import InvalidInput
from model.evidence import Calibration
from model.kept_coupling import WarmStart
from model.neighbours import Neighbours
from model.recency import Recency
from model.terms import Terms, default_terms

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model version in memory.

    Attributes
    ----------
    items : float32[I, d]
        Z, the vectors served: at length 1 what was learned, shorter what was placed by its like,
        zero rows for items of which nothing is known.
    recency : Recency
        Weights of a user's events, by position (their sum is 1) and by time.
    learned : bool[I]
        Items that had events of their own when this was trained.
    parameters : name -> float32 array
        The encoder's: ``embedding`` [I, d], ``log_weights`` [H, L], ``log_gaps`` [H, G],
        ``log_temperature`` [], and by side ``sides.NAME.*`` and ``scales.NAME`` [] or, fused on the
        simplex, ``log_shares.NAME`` []; a modality's ``sides.NAME.weight`` is [t, d].
    moments : name -> float32 array
        Adam's first and second moment of each parameter, ``NAME.first`` and ``NAME.second``.
    steps : int
        Adam's count of steps.
    trained_upto : int
        Every event with a smaller sequence has been learned from or could have been replayed.
    potentials : name -> WarmStart
        Where the next transport between the ID space and a modality's starts.
    late : int64[*] or None
        Sequences of the events whose late label (`Interactions.late`) this version has learned,
        ascending; None where that is not known.
    neighbours : Neighbours or None
        Of the items by text, which the next fine-tune goes on from; None where no graph was on.
    calibration : Calibration or None
        Terms of the score that the stream speaks for; the configuration's without.
    expected : float32[I] or None
        Recent count that each placed item is expected to have, else 0; nothing without.
    """

    items: NDArray[np.float32]
    recency: Recency
    learned: NDArray[np.bool_]
    parameters: Arrays
    trained_upto: int
    moments: Arrays = field(default_factory=dict[str, NDArray[np.float32]])
    steps: int = 0
    potentials: Mapping[str, WarmStart] = field(default_factory=dict[str, WarmStart])
    late: NDArray[np.int64] | None = None
    neighbours: Neighbours | None = None
    calibration: Calibration | None = None
    expected: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        size, dim = self.items.shape
        expected = {
            "embedding": (size, dim),
            "log_weights": self.recency.position.shape,
            "log_gaps": self.recency.gap.shape,
        }
        for name, shape in expected.items():
            got = self.parameters[name].shape if name in self.parameters else None
            if got != shape:
                raise InvalidInput(f"parameter {name} has shape {got}, expected {shape}")
        if len(self.learned) != size:
            raise InvalidInput(f"learned names {len(self.learned)} items of {size}")
        if self.expected is not None and len(self.expected) != size:
            raise InvalidInput(f"{len(self.expected)} counts are expected of {size} items")

    @property
    def dim(self) -> int:
        """Dimensions d."""
        return int(self.items.shape[1])

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Items that have a vector beside their like and no events to learn one from, bool[I]."""
        placed: NDArray[np.bool_] = self.items.any(axis=1) & ~self.learned
        return placed


def terms_of(calibration: Calibration | None, config: ModelConfig) -> Terms:
    """The terms that the stream speaks for; the configuration's while it says nothing."""
    return default_terms(config) if calibration is None else calibration.terms
