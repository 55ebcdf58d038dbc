"""How much each item says for each other one, in closed form: EASE over weighted users.

B = I − P·diag(1/P_ii), P = (Xᵀ·D^(−2a)·X + λI)⁻¹, X who had what and D how much each user had: the
ridge regression of each item on all others, users with much counting less each. What a
softmax over few dimensions smooths away, pairs of items that go together, stands here.

References
----------
Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.data import Interactions
from model.errors import InvalidInput

MOST_ITEMS = 20_000
"""Items beyond which the dense matrix of all pairs (4·I² bytes, I³ operations) is not to be had."""


def ridge_weights(
    data: Interactions, *, penalty: float, damping: float = 0.25
) -> NDArray[np.float32]:
    """Weights B of items for items, float32[I, I], zero on the diagonal and for unseen items.

    Parameters
    ----------
    data : Interactions
        Its positive events; an item twice counts once.
    penalty : float
        λ, above 0.
    damping : float
        a, in [0, 1]: a user with n items counts n^(−2a).

    Raises
    ------
    InvalidInput
        There are more than `MOST_ITEMS` items, or the penalty is not above 0.
    """
    if data.items > MOST_ITEMS or penalty <= 0:
        raise InvalidInput(
            f"{data.items} items with penalty {penalty}: at most {MOST_ITEMS} items, penalty > 0"
        )
    had = data.positives()
    owner, item = np.divmod(np.unique(had.owners() * data.items + had.item), max(data.items, 1))
    count = np.bincount(owner, minlength=data.users)
    seen, column = np.unique(item, return_inverse=True)
    value = torch.from_numpy(count.astype(np.float32)[owner] ** np.float32(-damping))
    place = torch.from_numpy(np.stack([owner, column]))
    x = torch.sparse_coo_tensor(place, value, (data.users, len(seen)), check_invariants=True)
    with warnings.catch_warnings():
        # The product goes through a CSR tensor, which torch calls beta; held to NumPy's by a test.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        inverse = torch.sparse.mm(x.t(), x).to_dense()
    inverse.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(inverse))
    inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0.0)
    if len(seen) == data.items:
        return inverse.numpy()
    weights = np.zeros((data.items, data.items), np.float32)
    weights[np.ix_(seen, seen)] = inverse.numpy()
    return weights


def ridge_scores(
    weights: NDArray[np.float32], indptr: NDArray[np.int64], had: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Sum of the weights of what each user had, float32[n, I].

    Parameters
    ----------
    weights : float32[I, I]
    indptr, had : int64[n + 1], int64[m]
        Items by user, as CSR.
    """
    bags = functional.embedding_bag(
        torch.from_numpy(had),
        torch.from_numpy(weights),
        torch.from_numpy(indptr),
        mode="sum",
        include_last_offset=True,
    )
    return bags.numpy()
