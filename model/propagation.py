"""LightGCN propagation of item vectors over the decayed user-item graph.

Â = D^(−1/2)·A·D^(−1/2) over users and items, edges weighted by kind and age. There is no user
table, so users start at zero and one hop is the way there and back:
z ← normalise(z + β·Σ_u Â_iu Σ_j Â_uj z_j).

References
----------
He et al.: LightGCN, SIGIR 2020.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data import Interactions, unit_rows
from model.errors import InvalidInput


def propagate(
    data: Interactions, vectors: NDArray[np.float32], *, mix: float, hops: int = 1
) -> NDArray[np.float32]:
    """Item vectors with those of the items that share users mixed in, float32[I, d].

    Parameters
    ----------
    data : Interactions
        Its positive events are the edges, weighted; an edge twice counts twice.
    vectors : float32[I, d]
    mix : float
        β, the weight of each hop's result.
    hops : int

    Raises
    ------
    InvalidInput
        There is not one vector per item, or β or the hops are negative.
    """
    if len(vectors) != data.items:
        raise InvalidInput(f"{len(vectors)} vectors for {data.items} items")
    if mix < 0 or hops < 0:
        raise InvalidInput(f"mix {mix} and hops {hops} must not be negative")
    to_users, to_items = normalised_adjacency(data)
    reached = torch.from_numpy(vectors)
    total = reached.clone()
    for _ in range(hops):
        reached = to_items @ (to_users @ reached)
        total += mix * reached
    return unit_rows(total.numpy())


def normalised_adjacency(data: Interactions) -> tuple[Tensor, Tensor]:
    """Â from items to users, CSR [U, I], and from users to items, CSR [I, U]."""
    edges = data.positives()
    user, item, weight = _coalesced(edges)
    user_degree = np.bincount(user, weight, edges.users)
    item_degree = np.bincount(item, weight, edges.items)
    value = weight / np.sqrt(np.maximum(user_degree[user] * item_degree[item], 1e-30))
    by_item = np.lexsort((user, item))
    return (
        csr(user, item, value, (edges.users, edges.items)),
        csr(item[by_item], user[by_item], value[by_item], (edges.items, edges.users)),
    )


def _coalesced(
    edges: Interactions,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Distinct edges by user, then item, with their weights summed."""
    key = edges.owners() * max(edges.items, 1) + edges.item
    distinct, inverse = np.unique(key, return_inverse=True)
    weight = np.bincount(inverse, edges.weight, len(distinct)).astype(np.float64).astype(np.float64)
    return distinct // max(edges.items, 1), distinct % max(edges.items, 1), weight


def csr(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    value: NDArray[np.float64],
    shape: tuple[int, int],
) -> Tensor:
    """Sparse float32 tensor of entries sorted by row."""
    pointers = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    with warnings.catch_warnings():
        # What torch calls beta is the product used here, held to PyG's layer by a test.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(pointers),
            torch.from_numpy(column),
            torch.from_numpy(value.astype(np.float32)),
            shape,
            check_invariants=True,
        )
