"""What is added to an item's own vector: a side each, from something known beside its id.

A side is made anew for each fine-tune and holds what was prepared for it: unit vectors of a
modality, say, or a graph. What it learns are its parameters.
"""

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-12
"""Length below which a vector counts as zero, in all of the model."""


class Side(nn.Module):
    """Vectors of items in the space of the items."""

    @abstractmethod
    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Rows of these items (int64[n]) or of all, float32[n, d], each as if made with all.

        At length 1; a zero row for an item of which the side knows nothing.
        """

    @abstractmethod
    def into_items(self) -> list[nn.Parameter]:
        """Parameters whose last dimension is d of the items: they turn when the items do."""


class Head(Side):
    """normalise(W·x_i): a modality, seen through a linear map.

    Parameters
    ----------
    weight : float32[t, d]
        W, from the modality's vectors to the space of the items.
    rows : float32[I, t]
        x, at length 1; a zero row for an item without.
    """

    def __init__(self, weight: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.rows = rows

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Images of the modality's vectors, float32[n, d]."""
        rows = self.rows if ids is None else self.rows.index_select(0, ids)
        return functional.normalize(rows @ self.weight, eps=EPSILON)

    def into_items(self) -> list[nn.Parameter]:
        """The map."""
        return [self.weight]
