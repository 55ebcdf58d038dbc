"""What a step adds to the ranking loss: the spaces of an item's id and modalities brought together.

λ_c·CMCL tells each item's vectors from those of other items, in each two spaces; λ_w·OAT brings
the space of each modality to that of the ids as a distribution. Both are off at weight 0.
"""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig
from model.costs import cosine
from model.data import MODALITIES
from model.divergence import divergence
from model.encoder import Encoder
from model.losses import contrastive_loss
from model.sides import LIMIT, TOLERANCE, Carried
from model.transport import SMOOTH, Start, by_kernel, pose, solve

_KNOWN = 0.5
"""Share of a batch with potentials from earlier steps above which they are gone on from."""


class Objective:
    """The terms beside ranking, and what they remember from step to step.

    Parameters
    ----------
    encoder : Encoder
    config : ModelConfig
    rng : Generator
        Draws the items of a step that are transported, where there are too many.
    """

    def __init__(self, encoder: Encoder, config: ModelConfig, rng: np.random.Generator) -> None:
        self._encoder, self._config, self._rng = encoder, config, rng
        self._spaces = {n: encoder.side(n) for n in MODALITIES if n in encoder.sides}
        self._recent = torch.zeros(0, dtype=torch.int64)
        self._potentials: dict[str, tuple[Tensor, Tensor]] = {}

    def terms(self, ids: Tensor) -> Tensor:
        """λ_c·CMCL + λ_w·OAT of a step, float32[].

        Parameters
        ----------
        ids : int64[B]
            The batch's items, each once.
        """
        config, loss = self._config, torch.zeros(())
        if config.contrastive_weight and self._spaces:
            loss = loss + config.contrastive_weight * self._contrast(ids)
        if config.transport_weight and self._spaces:
            apart = self._samples if config.transport_level == "sample" else self._dimensions
            loss = loss + config.transport_weight * apart(ids)
        return loss

    def _contrast(self, ids: Tensor) -> Tensor:
        """CMCL of each two spaces; the items of the last steps are further negatives.

        Any item's vectors can be had in any step, so what is remembered is who the items were: no
        negative is older than the step.
        """
        earlier = self._recent[~torch.isin(self._recent, ids)]
        self._recent = torch.cat([ids, earlier])[: self._config.contrastive_memory]
        views, loss = self._views(ids), torch.zeros(())
        with torch.no_grad():
            further = self._views(earlier)
        for (one, other), (_, negatives) in zip(
            combinations(views, 2), combinations(further, 2), strict=True
        ):
            loss = loss + contrastive_loss(
                one,
                other,
                one.any(1) & other.any(1),
                temperature=self._encoder.log_contrast.exp(),
                further=negatives,
            )
        return loss

    def _views(self, ids: Tensor) -> list[Tensor]:
        """These items in each space, float32[B, d], the ids' first; zero rows where absent."""
        return [self._encoder.own(ids), *(side.vectors(ids) for side in self._spaces.values())]

    def _samples(self, ids: Tensor) -> Tensor:
        """Debiased divergence of own vectors and each modality's, on the same items."""
        loss = torch.zeros(())
        for name, side in self._spaces.items():
            image = side.vectors(ids)
            both = torch.nonzero(image.detach().any(1)).flatten()
            if len(both) > self._config.transport_batch:
                drawn = self._rng.choice(len(both), self._config.transport_batch, replace=False)
                both = both[torch.from_numpy(np.sort(drawn))]
            if len(both) > 1:
                loss = loss + self._apart(name, ids[both], image.index_select(0, both))
        return loss

    def _apart(self, name: str, ids: Tensor, image: Tensor) -> Tensor:
        own = self._encoder.own(ids)
        problem = pose(cosine(own.detach(), image.detach()), sharpness=SMOOTH)
        start = self._start(name, ids)
        found = solve(problem, start, tolerance=TOLERANCE, limit=LIMIT, solver=by_kernel)
        for table, potential in zip(
            self._potentials[name], (found.source, found.target), strict=True
        ):
            table[ids] = potential
        return divergence(
            own,
            image,
            epsilon=problem.epsilon,
            pairing=cosine,
            tolerance=TOLERANCE,
            coupling=found,
        )

    def _start(self, name: str, ids: Tensor) -> Start | None:
        """From where each of these items was when it was last transported."""
        if name not in self._potentials:
            unknown = torch.full((len(self._encoder.embedding),), torch.nan, dtype=torch.float64)
            self._potentials[name] = (unknown, unknown.clone())
        f, g = (table[ids] for table in self._potentials[name])
        known = torch.isfinite(f)
        if known.double().mean() < _KNOWN:
            return None
        return Start(f.where(known, f[known].mean()), g.where(known, g[known].mean()))

    def _dimensions(self, ids: Tensor) -> Tensor:
        """Mean squared distance of the dimensions that are coupled, of each modality's head."""
        loss = torch.zeros(())
        for side in self._spaces.values():
            if isinstance(side, Carried):
                loss = loss + side.apart(self._encoder.own(ids), ids)
        return loss
