"""What a step adds to the ranking loss: each two spaces of the batch's items brought together."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from model.config import ModelConfig
from model.losses import contrastive_loss


def alignment_loss(
    own: Tensor, spaces: Mapping[str, Tensor], ids: Tensor, config: ModelConfig
) -> Tensor:
    """λ_c times the contrastive loss (CMCL) of own vectors and modalities, in pairs, float32[].

    Parameters
    ----------
    own : float32[I, d]
        Items' own vectors, of any length.
    spaces : name -> float32[I, d]
        Images of the modalities; zero rows for items without.
    ids : int64[B]
        The batch's items, each once.
    """
    loss = torch.zeros(())
    if not config.contrastive_weight:
        return loss
    views = [rows.index_select(0, ids) for rows in (own, *spaces.values())]
    for one, other in combinations(views, 2):
        loss = loss + contrastive_loss(
            one, other, one.any(1) & other.any(1), temperature=config.contrastive_temperature
        )
    return config.contrastive_weight * loss
