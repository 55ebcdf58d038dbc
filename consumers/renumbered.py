"""A model version whose items have the numbers that they have in another graph."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from consumers.versions import Version
from model import version as files
from model.state import ModelState
from stream.vocabulary import Vocabulary

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Renumbered(Version):
    """A version as a graph of part of the users takes it: to fold in, not to learn from.

    Attributes
    ----------
    items : Vocabulary
        Of that graph; takes in all items of the version when it is loaded.
    """

    items: Vocabulary = field(default_factory=Vocabulary)

    def load(self) -> ModelState:
        """Read the arrays, checking their hashes, and put their rows where the items are here."""
        found = files.load(self.path)
        state = found.state
        numbers = self.items.intern(list(found.item_ids))
        embedding = _rows(state.parameters["embedding"], numbers, len(self.items))
        expected = state.expected
        return ModelState(
            items=_rows(state.items, numbers, len(self.items)),
            recency=state.recency,
            learned=_rows(state.learned, numbers, len(self.items)),
            parameters={
                "embedding": embedding,
                "log_weights": state.parameters["log_weights"],
                "log_gaps": state.parameters["log_gaps"],
            },
            trained_upto=state.trained_upto,
            calibration=state.calibration,
            expected=None if expected is None else _rows(expected, numbers, len(self.items)),
        )


def renumbered(version: Version, items: Vocabulary) -> Renumbered:
    """The version, for a graph with these items."""
    return Renumbered(version.number, version.snapshot, version.path, version.meta, items)


def _rows(array: NDArray[T], numbers: NDArray[np.int32], size: int) -> NDArray[T]:
    placed = np.zeros((size, *array.shape[1:]), array.dtype)
    placed[numbers] = array
    return placed
