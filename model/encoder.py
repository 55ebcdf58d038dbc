"""The one definition of how items and users become vectors, as torch trains it.

z_i = normalise(E_i + Σ_m a_m·side_m(i)), over the sides that know item i (`model.sides`); or, on
the simplex, z_i = normalise((1 − Σ_m w_m)·normalise(E_i) + Σ_m w_m·side_m(i)), all weights above 0.
user = normalise(‖_h Σ_j w_hj·v_h,g(j)·z_{i_j}^h) over its last L events, the most recent first:
z^h is the h-th of H equal groups of z's dimensions, each with a timescale of its own
(`model.recency`). The fast path applies the same in NumPy (`model.fold_in`); a test holds the two
together.
"""

import math
from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.sides import EPSILON, Carried, Side

TEMPERATURES = (0.02, 1.0)
"""Bounds of the learned temperature."""


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
    contrast : float
        Where the τ of the contrastive alignment starts.
    sides : name -> Side
    scale : float
        Where each side's weight a_m starts; on the simplex, w_m in units of the own vector's.
    fusion : "free" or "simplex"
    """

    def __init__(
        self,
        embedding: Tensor,
        log_weights: Tensor,
        log_gaps: Tensor,
        log_temperature: Tensor,
        *,
        sides: Mapping[str, Side] | None = None,
        scale: float = 0.5,
        contrast: float = 0.2,
        fusion: Literal["free", "simplex"] = "free",
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding)
        self.log_weights = nn.Parameter(log_weights)
        self.log_gaps = nn.Parameter(log_gaps)
        self.log_temperature = nn.Parameter(log_temperature)
        self.log_contrast = nn.Parameter(torch.tensor(math.log(contrast)))
        self.sides = nn.ModuleDict(dict(sides or {}))
        # Named by their meaning: one is no start for the other when the fusion is changed.
        free = fusion == "free"
        start = torch.tensor(scale if free else math.log(scale))
        weights = nn.ParameterDict({name: nn.Parameter(start.clone()) for name in self.sides})
        self.scales = weights if free else nn.ParameterDict()
        self.log_shares = nn.ParameterDict() if free else weights

    def side(self, name: str) -> Side:
        """A side by its name."""
        return cast(Side, self.sides[name])

    def into_items(self) -> list[Tensor]:
        """All tensors whose last dimension is d: they turn when the items do."""
        return [self.embedding, *(p for name in self.sides for p in self.side(name).into_items())]

    @property
    def temperature(self) -> Tensor:
        """τ, float32[]."""
        return self.log_temperature.exp()

    def bound_temperature(self) -> None:
        """Bring a learned τ back to where a softmax over cosines neither saturates nor is flat."""
        with torch.no_grad():
            for learned in (self.log_temperature, self.log_contrast):
                if learned.requires_grad:
                    learned.clamp_(*map(math.log, TEMPERATURES))

    def couple(self) -> None:
        """Couple anew the sides whose dimensions are carried over."""
        for name in self.sides:
            side = self.side(name)
            if isinstance(side, Carried):
                side.couple(self.embedding)

    def own(self, ids: Tensor | None = None) -> Tensor:
        """E of these items or of all, float32[n, d]."""
        return self.embedding if ids is None else self.embedding.index_select(0, ids)

    def beside(self, ids: Tensor | None = None) -> dict[str, Tensor]:
        """Each side's vectors by its name, float32[n, d], at length 1 or zero."""
        return {name: self.side(name).vectors(ids) for name in self.sides}

    def items(
        self, beside: Mapping[str, Tensor] | None = None, ids: Tensor | None = None
    ) -> Tensor:
        """Item vectors z, float32[n, d], at length 1.

        Parameters
        ----------
        beside : name -> float32[n, d]
            What `beside` gave, where it is at hand.
        ids : int64[n], default all
        """
        parts = self.beside(ids) if beside is None else beside
        if len(self.log_shares):
            return self._on_the_simplex(self.own(ids), parts)
        joined = self.own(ids)
        for name, vectors in parts.items():
            joined = joined + self.scales[name] * vectors
        return functional.normalize(joined, eps=EPSILON)

    def _on_the_simplex(self, own: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        own = functional.normalize(own, eps=EPSILON)
        # The own vector's share is e^0: softmax over it and the sides keeps all above zero.
        logits = [self.log_shares[name] for name in parts]
        shares = torch.stack([torch.zeros_like(logits[0]), *logits]).softmax(0)
        joined = shares[0] * own
        for share, vectors in zip(shares[1:], parts.values(), strict=True):
            joined = joined + share * vectors
        return functional.normalize(joined, eps=EPSILON)

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
        n, groups = len(history), len(self.log_weights)
        there = history >= 0
        _, ago = torch.nonzero(there, as_tuple=True)
        # Selecting along a dimension adds gradients in one order, indexing by a tensor in any.
        by_place = self.log_weights.index_select(1, ago)
        weights = (by_place + self.log_gaps.index_select(1, gap[there])).exp()
        # Item i's group h is row i·H + h of a longer table: one sum for all groups, of the events
        # there are, and the [n, L, d] block is never built.
        group, counts = torch.arange(groups)[:, None], there.sum(1)
        rows = history[there] * groups + group
        summed = functional.embedding_bag(
            rows.flatten(),
            items.reshape(items.shape[0] * groups, items.shape[1] // groups),
            (counts.cumsum(0) - counts + group * len(ago)).flatten(),
            mode="sum",
            per_sample_weights=weights.flatten(),
        )
        joined = summed.reshape(groups, n, items.shape[1] // groups).transpose(0, 1).flatten(1)
        return functional.normalize(joined, eps=EPSILON)
