"""The one definition of how items and users become vectors, as torch trains it.

z_i = normalise(E_i + a·normalise(W·x_i)), the text part where item i has a text vector x_i;
user = normalise(‖_h Σ_j w_hj·v_h,g(j)·z_{i_j}^h) over its last L events, the most recent first:
z^h is the h-th of H equal groups of z's dimensions, each with a timescale of its own
(`model.recency`). The fast path applies the same in NumPy (`model.fold_in`); a test holds the two
together.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURES = (0.02, 1.0)
"""Bounds of the learned temperature."""
EPSILON = 1e-12
"""Length below which a vector counts as zero, here, in `model.losses` and `model.fold_in`."""


class Encoder(nn.Module):
    """Item and user vectors.

    Parameters
    ----------
    embedding : float32[I, d]
        E, the items' own vectors.
    log_weights : float32[H, L]
        log w, by group of dimensions and by how many events ago.
    log_gaps : float32[H, G]
        log v, by group and by how long ago.
    log_temperature : float32[]
        log τ of the softmax that is learned from; the vectors served do not depend on it.
    head : float32[t, d] or None
        W, from text vectors to the space of the items.
    scale : float32[] or None
        a, the weight of the text part.
    """

    def __init__(
        self,
        embedding: Tensor,
        log_weights: Tensor,
        log_gaps: Tensor,
        log_temperature: Tensor,
        *,
        head: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding)
        self.log_weights = nn.Parameter(log_weights)
        self.log_gaps = nn.Parameter(log_gaps)
        self.log_temperature = nn.Parameter(log_temperature)
        self.head = None if head is None else nn.Parameter(head)
        self.scale = None if scale is None else nn.Parameter(scale)

    @property
    def temperature(self) -> Tensor:
        """τ, float32[]."""
        return self.log_temperature.exp()

    def bound_temperature(self) -> None:
        """Bring a learned τ back to where a softmax over cosines neither saturates nor is flat."""
        if self.log_temperature.requires_grad:
            with torch.no_grad():
                self.log_temperature.clamp_(*map(math.log, TEMPERATURES))

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

    def users(self, items: Tensor, history: Tensor, gap: Tensor) -> Tensor:
        """User vectors, float32[n, d], at length 1; zero for a user without history.

        Parameters
        ----------
        items : float32[I, d]
        history : int64[n, L]
            Items, the most recent first, -1 where there is none.
        gap : int64[n, L]
            How long ago, as `model.recency.buckets` gives it.
        """
        n, length = history.shape
        groups = len(self.log_weights)
        # Selecting along a dimension adds gradients in one order, indexing by a tensor in any.
        by_time = self.log_gaps.index_select(1, gap.flatten()).reshape(groups, n, length)
        weights = (self.log_weights[:, None, :length] + by_time).exp() * (history >= 0)
        # Item i's group h is row i·H + h of a longer table: one sum for all groups, and the
        # [n, L, d] block is never built.
        rows = history.clamp(min=0)[None] * groups + torch.arange(groups)[:, None, None]
        summed = functional.embedding_bag(
            rows.reshape(groups * n, length),
            items.reshape(items.shape[0] * groups, items.shape[1] // groups),
            mode="sum",
            per_sample_weights=weights.reshape(groups * n, length),
        )
        joined = summed.reshape(groups, n, items.shape[1] // groups).transpose(0, 1).flatten(1)
        return functional.normalize(joined, eps=EPSILON)
