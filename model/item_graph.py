"""Items seen through their neighbours' texts: multi-head attention over the nearest (GATv2).

side_i = normalise(O·elu(‖_h Σ_j α_ij^h W_h x_j)) over the k items j whose texts are nearest to item
i's; α_i^h is a softmax of a_h·leakyrelu(W_h x_j + V_h x_i + c_h·cos(x_i, x_j)).

References
----------
Brody, Alon, Yahav: How Attentive are Graph Attention Networks?, ICLR 2022.
Li et al.: RecGOAT, arXiv 2602.00682, its item-item graph.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.errors import InvalidInput
from model.neighbours import Neighbours
from model.sides import EPSILON, Side

with warnings.catch_warnings():
    # torch-geometric's own import still touches what torch deprecates.
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GATv2Conv

_BLOCK = 1 << 22
"""Numbers that the messages of a part hold where no gradient is wanted (16 MB), some times over."""


class ItemGraph(Side):
    """What an item's neighbours by text say of it.

    Parameters
    ----------
    rows : float32[I, t]
        x, texts at length 1; a zero row for an item without.
    near : Neighbours
        Of these rows.
    dim : int
        d, a multiple of the heads.
    heads : int
    rng : numpy Generator
        Of the first weights.

    Raises
    ------
    InvalidInput
        The neighbours are not those of as many rows, or d is not a multiple of the heads.
    """

    def __init__(
        self,
        rows: NDArray[np.float32],
        near: Neighbours,
        dim: int,
        heads: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        if len(near) != len(rows):
            raise InvalidInput(f"neighbours of {len(near)} items, texts of {len(rows)}")
        if dim % heads:
            raise InvalidInput(f"{dim} dimensions do not divide into {heads} heads")
        self.table = near
        self.rows = torch.from_numpy(rows)
        self.near = torch.from_numpy(near.ids.astype(np.int64))
        self.cosine = torch.from_numpy(near.cosine)
        self.conv: Any = GATv2Conv(
            rows.shape[1],
            dim // heads,
            heads=heads,
            edge_dim=1,
            add_self_loops=False,
            bias=False,
        )
        with torch.no_grad():
            for parameter in self.conv.parameters():
                _draw(parameter, rng)
        self.out = nn.Parameter(torch.eye(dim))

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """Rows of these items or of all, float32[n, d]; only they and their neighbours are read."""
        every = torch.arange(len(self.rows)) if ids is None else ids
        if torch.is_grad_enabled():
            return self._seen(every)
        step = max(1, _BLOCK // (self.table.k * len(self.out)))
        starts = range(0, max(len(every), 1), step)
        return torch.cat([self._seen(every[start : start + step]) for start in starts])

    def _seen(self, ids: Tensor) -> Tensor:
        near, cosine = self.near.index_select(0, ids), self.cosine.index_select(0, ids)
        to, place = torch.nonzero(near >= 0, as_tuple=True)
        sources, start = torch.unique(near[to, place], return_inverse=True)
        seen = self.conv(
            (self.rows.index_select(0, sources), self.rows.index_select(0, ids)),
            torch.stack([start, to]),
            cosine[to, place, None],
        )
        return functional.normalize(functional.elu(seen) @ self.out, eps=EPSILON)

    def into_items(self) -> list[Tensor]:
        """O alone: attention works on texts, which do not turn."""
        return [self.out]


def _draw(parameter: Tensor, rng: np.random.Generator) -> None:
    """Glorot's uniform start."""
    bound = np.sqrt(6.0 / (parameter.shape[-1] + parameter.shape[-2]))
    start = rng.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
    parameter.copy_(torch.from_numpy(start))
