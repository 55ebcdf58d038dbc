"""The one definition of how items and users become vectors, as torch trains it.

z_i = normalise(E_i + a·normalise(W·x_i)), the text part where item i has a text vector x_i;
user = normalise(Σ_j w_j·z_{i_j}) over its last L events, the most recent first. The fast path
applies the same in NumPy (`model.fold_in`); a test holds the two together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-12
"""Length below which a vector counts as zero, here and in `model.fold_in`."""


class Encoder(nn.Module):
    """Item and user vectors.

    Parameters
    ----------
    embedding : float32[I, d]
        E, the items' own vectors.
    log_weights : float32[L]
        log w, by how many events ago.
    head : float32[t, d] or None
        W, from text vectors to the space of the items.
    scale : float32[] or None
        a, the weight of the text part.
    """

    def __init__(
        self, embedding: Tensor, log_weights: Tensor, head: Tensor | None, scale: Tensor | None
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding)
        self.log_weights = nn.Parameter(log_weights)
        self.head = None if head is None else nn.Parameter(head)
        self.scale = None if scale is None else nn.Parameter(scale)

    def items(self, text: Tensor | None) -> Tensor:
        """Item vectors z, float32[I, d], at length 1.

        Parameters
        ----------
        text : float32[I, t] or None
            Text vectors at length 1; a zero row for an item without.
        """
        if text is None or self.head is None or self.scale is None:
            return functional.normalize(self.embedding, eps=EPSILON)
        side = functional.normalize(text @ self.head, eps=EPSILON)
        return functional.normalize(self.embedding + self.scale * side, eps=EPSILON)

    def users(self, items: Tensor, history: Tensor) -> Tensor:
        """User vectors, float32[n, d], at length 1; zero for a user without history.

        Parameters
        ----------
        items : float32[I, d]
        history : int64[n, L]
            Items, the most recent first, -1 where there is none.
        """
        return functional.normalize(
            weighted_sum(items, self.log_weights.exp(), history), eps=EPSILON
        )


def weighted_sum(items: Tensor, weights: Tensor, history: Tensor) -> Tensor:
    """Σ_j w_j·z_{i_j}, float32[n, d], without ever building the [n, L, d] block."""
    known = history >= 0
    shares = torch.where(known, weights[: history.shape[1]], torch.zeros_like(weights[:1]))
    return functional.embedding_bag(
        history.clamp(min=0), items, mode="sum", per_sample_weights=shares
    )
