"""What is minimised: ranking the next item, and bringing an item's two spaces together."""

import torch
from torch import Tensor
from torch.nn import functional

from model.sides import EPSILON


def softmax_loss(
    users: Tensor,
    items: Tensor,
    *,
    target: Tensor,
    negatives: Tensor,
    weight: Tensor,
    temperature: Tensor,
    passed: tuple[Tensor, Tensor] | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Weighted mean of −log softmax of the target's score against the negatives', float32[].

    Parameters
    ----------
    users : float32[B, d]
    items : float32[I, d]
    target : int64[B]
    negatives : int64[N]
        Shared by the batch; one that is a row's own target is left out of that row.
    weight : float32[B]
    temperature : float32[]
    passed : int64[B, M] and float32[B, M], optional
        Negatives of each row's own, and how often each counts; a row's own target does not.
    added : float32[B, 1 + N + M], optional
        What a score is beside the cosine, which it is by default: of the target, of the negatives,
        of those of the row's own.
    """
    # Indexing by a tensor adds gradients in any order on several threads; these do not.
    scores = [
        (users * items.index_select(0, target)).sum(1)[:, None],
        users @ items.index_select(0, negatives).T,
    ]
    same = target[:, None] == negatives
    # The logarithm of how often it counts, beside its score, is counting it so often.
    often = [torch.zeros(len(target), 1), torch.zeros(same.shape).masked_fill(same, -torch.inf)]
    if passed is not None:
        item, counts = passed
        shown = items.index_select(0, item.flatten()).reshape(*item.shape, -1)
        scores.append((shown @ users[:, :, None]).squeeze(2))
        often.append(counts.masked_fill(item == target[:, None], 0.0).log())
    score = torch.cat(scores, dim=1)
    if added is not None:
        score = score + added
    every = score / temperature + torch.cat(often, dim=1)
    loss = functional.cross_entropy(every, torch.zeros_like(target), reduction="none")
    return (loss * weight).sum() / weight.sum()


def contrastive_loss(
    anchor: Tensor,
    other: Tensor,
    present: Tensor,
    *,
    temperature: Tensor | float,
    further: Tensor | None = None,
) -> Tensor:
    """InfoNCE between two spaces of the same items, float32[]: small when they agree.

    L = mean_i −log exp(a_i·b_i/τ) / Σ_j exp(a_i·b_j/τ) over the items that are present in both.
    It is to be *minimised*; the released code minimises 1 − L, which pushes the spaces apart.

    Parameters
    ----------
    anchor, other : float32[B, d]
        Rows of *different* items (a repeated one would be its own negative); any lengths.
    present : bool[B]
        Rows that exist in both spaces; the others are neither positives nor negatives.
    temperature : float32[]
        τ, above 0.
    further : float32[N, d]
        Rows of the other space, of yet other items: negatives of every anchor. Zero rows are
        items without.

    Returns
    -------
    Zero, with zero gradients, when fewer than two rows are present: there is nothing to contrast.

    References
    ----------
    van den Oord et al.: Representation Learning with Contrastive Predictive Coding, 2018.
    Li et al.: RecGOAT, arXiv 2602.00682, the CMCL term.
    """
    kept = torch.nonzero(present).flatten()
    if len(kept) < 2:
        return (anchor.sum() + other.sum()) * 0.0
    left, right = (
        functional.normalize(rows.index_select(0, kept), eps=EPSILON) for rows in (anchor, other)
    )
    if further is not None:
        right = torch.cat([right, functional.normalize(further[further.any(1)], eps=EPSILON)])
    return functional.cross_entropy(left @ right.T / temperature, torch.arange(len(kept)))
