"""What a fine-tune leaves behind, as arrays: what is served and what the next one goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.couplings import WarmStart
from model.errors import InvalidInput
from model.neighbours import Neighbours
from model.recency import Recency

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

    @property
    def dim(self) -> int:
        """Dimensions d."""
        return int(self.items.shape[1])
