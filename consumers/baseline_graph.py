"""LightGCN, to compare with.

e⁽ᵏ⁺¹⁾ = D^(-1/2) A D^(-1/2) e⁽ᵏ⁾ over the graph of users and items, vectors are the mean of all
layers, learned by BPR on pairs.

References
----------
He et al.: LightGCN, SIGIR 2020.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from consumers.dataset import Dataset, Ints
from consumers.methods import Floats, Question, Setting
from model.propagation import csr

FACTORS = 128
LAYERS = 2
_BATCH = 4096
"""Pairs a step,"""
_STEPS = 32
"""and more where an epoch would have more steps than these, for each costs the whole graph,"""
_MOST = 8
"""at most so many times as many."""
_PENALTY = 1e-4
"""Of the squared length of what a step touches, a row."""


class LightGCN:
    """Goes on from the vectors it had; a user is as of when it learned last."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self._epochs = int(setting["epochs"])
        self._rate = setting["rate"]
        self._rng = np.random.default_rng(seed)
        self._table: Tensor | None = None
        self._users: Floats = np.zeros((0, FACTORS), np.float32)
        self._items: Floats = np.zeros((0, FACTORS), np.float32)

    def learn(self, data: Dataset, upto: int) -> None:
        pairs = np.unique(data.user[:upto] * data.items + data.item[:upto])
        user, item = np.divmod(pairs, data.items)
        graph = adjacency(user, item, data.users, data.items)
        if self._table is None:
            start = self._rng.standard_normal((data.users + data.items, FACTORS)) * 0.1
            self._table = torch.from_numpy(start.astype(np.float32)).requires_grad_()
        self._train(self._table, graph, user, item + data.users, np.unique(item) + data.users)
        with torch.no_grad():
            vectors = propagated(graph, self._table).numpy()
        self._users, self._items = vectors[: data.users], vectors[data.users :].copy()
        self._items[np.setdiff1d(np.arange(data.items), item)] = 0.0  # never learned

    def _train(self, table: Tensor, graph: Tensor, user: Ints, item: Ints, known: Ints) -> None:
        optimiser = torch.optim.Adam([table], lr=self._rate)
        batch = min(max(_BATCH, -(-len(user) // _STEPS)), _MOST * _BATCH)
        for _ in range(self._epochs):
            order = self._rng.permutation(len(user))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                other = self._rng.choice(known, len(rows))
                optimiser.zero_grad(set_to_none=True)
                picked = torch.from_numpy(np.stack([user[rows], item[rows], other]))
                loss = pair_loss(propagated(graph, table), table, picked)
                torch.autograd.backward([loss])
                optimiser.step()

    def scores(self, question: Question) -> Floats:
        return self._users[question.user] @ self._items.T


def adjacency(user: Ints, item: Ints, users: int, items: int) -> Tensor:
    """Symmetrically normalised graph, CSR float32[U + I, U + I]."""
    rows, columns = np.concatenate([user, item + users]), np.concatenate([item + users, user])
    degree = np.maximum(np.bincount(rows, minlength=users + items), 1).astype(np.float32)
    weight = 1.0 / np.sqrt(degree[rows] * degree[columns])
    order = np.lexsort((columns, rows))
    size = users + items
    return csr(rows[order], columns[order], weight[order].astype(np.float64), (size, size))


class _Hop(torch.autograd.Function):
    """One product with a symmetric graph: its gradient is the same product."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(graph)
        return graph @ x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[None, Tensor]:
        (graph,) = ctx.saved_tensors
        return None, graph @ grad_outputs[0]


def propagated(graph: Tensor, table: Tensor) -> Tensor:
    """Mean of all layers, float32[U + I, d]."""
    layer = total = table
    for _ in range(LAYERS):
        layer = _Hop.apply(graph, layer)
        total = total + layer
    return total / (LAYERS + 1)


def pair_loss(vectors: Tensor, table: Tensor, picked: Tensor) -> Tensor:
    """Mean of -log σ(u·i - u·j) and the penalty, over rows (u, i, j) of int64[3, n]."""
    user, item, other = (vectors.index_select(0, row) for row in picked)
    gap = (user * (item - other)).sum(1)
    lengths = sum((table.index_select(0, row) ** 2).sum() for row in picked)
    return functional.softplus(-gap).mean() + _PENALTY * lengths / picked.shape[1]
