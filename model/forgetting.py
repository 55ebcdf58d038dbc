"""What holds a fine-tune to what was learned before: anchored items, or answers to be kept.

Replay alone is the default; both terms are there to be weighed against it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Memory:
    """The encoder as it was before the fine-tune.

    Attributes
    ----------
    encoder : Encoder
        Encodes users as they were, and learns no more; its own vectors are the items.
    items : float32[I, d]
    share : float32[I]
        Share of each item in the events learned from before; their sum is 1, or 0 without any.
    """

    encoder: Encoder
    items: Tensor
    share: Tensor


def remember(encoder: Encoder, counts: NDArray[np.int64]) -> Memory:
    """Keep what the encoder says now.

    Parameters
    ----------
    counts : int64[I]
        Events of each item that were learned from.
    """
    with torch.no_grad():
        items = encoder.items()
    weights = (encoder.log_weights, encoder.log_gaps, encoder.log_temperature)
    plain = Encoder(items, *(p.detach().clone() for p in weights)).requires_grad_(
        requires_grad=False
    )
    share = counts / max(int(counts.sum()), 1)
    return Memory(plain, items, torch.from_numpy(share.astype(np.float32)))


def anchor_loss(items: Tensor, memory: Memory) -> Tensor:
    """Mean squared move of the item of an event learned before, Σ_i share_i·‖z_i − z'_i‖².

    Parameters
    ----------
    items : float32[I, d]
        z, as they are now.
    """
    return (memory.share * ((items - memory.items) ** 2).sum(1)).sum()


def distillation_loss(
    users: Tensor,
    items: Tensor,
    memory: Memory,
    *,
    history: Tensor,
    gap: Tensor,
    among: Tensor,
    replayed: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Mean over replayed rows of KL(p' ‖ p) between softmaxes over ``among``, as it was and is.

    Parameters
    ----------
    users : float32[B, d]
    items : float32[I, d]
    history, gap : int64[B, L]
        What the users were encoded from.
    among : int64[N]
        Items.
    replayed : bool[B]
        Rows that were learned from before; of the others the memory has nothing to say.
    temperature : float32[]
        τ of what is learned; the memory has its own.

    References
    ----------
    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015.
    """
    kept = torch.nonzero(replayed).flatten()
    if not len(kept):
        return users.sum() * 0.0
    before = memory.encoder.users(
        memory.items, history.index_select(0, kept), gap.index_select(0, kept)
    )
    taught = before @ memory.items.index_select(0, among).T / memory.encoder.temperature
    said = users.index_select(0, kept) @ items.index_select(0, among).T / temperature
    return functional.kl_div(
        said.log_softmax(1), taught.log_softmax(1), reduction="batchmean", log_target=True
    )
