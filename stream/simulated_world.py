"""The people and things of a simulated ad platform: what is true, before anyone sees an event.

Users and items are unit vectors in one space. Items gather around topics that their texts speak of;
a user is drawn to two topics. Whoever learns the vectors back beats popularity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.simulated_text import TOPICS, describe

DIMENSION: Final = 32
_SHARPNESS: Final = 8.0  # how much likelier a liked item is chosen, in nats over a cosine of 1

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Thing:
    """An item as the platform publishes it."""

    name: str
    title: str
    description: str
    category: str
    campaign: int  # -1 for none
    price: float
    vector: Floats


class World:
    """Users with tastes, items with qualities; both change over time.

    Parameters
    ----------
    users, items, campaigns : int
        How many at first; items are added later.
    rng : np.random.Generator
    """

    def __init__(self, users: int, items: int, campaigns: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._campaigns = campaigns
        directions, _ = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))
        self._centres: Floats = directions[: len(TOPICS)]
        self.tastes = self._new_tastes(users)
        self.activity: Floats = rng.gamma(0.8, size=users) + 0.05
        self.things: list[Thing] = []
        self.latent: Floats = np.zeros((0, DIMENSION))
        self.quality: Floats = np.zeros(0)
        self.sponsor: Indices = np.zeros(0, dtype=np.int64)
        self.live: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.add_items(items)

    def add_items(self, count: int) -> Sequence[Thing]:
        """Let new items appear; about one in eight is sponsored by a campaign."""
        rng = self._rng
        topic = rng.integers(len(TOPICS), size=count)
        latent = _unit(self._centres[topic] * 1.3 + _unit(rng.standard_normal((count, DIMENSION))))
        paid = (rng.random(count) < 1 / 8) & (self._campaigns > 0)
        sponsor = np.where(paid, rng.integers(max(self._campaigns, 1), size=count), -1)
        seen = latent + 0.15 * rng.standard_normal(latent.shape) / np.sqrt(DIMENSION)
        new: list[Thing] = []
        for at in range(count):
            title, description = describe(int(topic[at]), rng)
            new.append(
                Thing(
                    name=f"item-{len(self.things) + at}",
                    title=title,
                    description=description,
                    category=TOPICS[topic[at]].name,
                    campaign=int(sponsor[at]),
                    price=round(float(rng.lognormal(3.0, 0.7)), 2),
                    vector=np.round(seen[at], 4),
                )
            )
        self.things.extend(new)
        self.latent = np.concatenate([self.latent, latent])
        self.quality = np.concatenate([self.quality, 0.6 * rng.standard_normal(count)])
        self.sponsor = np.concatenate([self.sponsor, sponsor])
        self.live = np.concatenate([self.live, np.ones(count, dtype=np.bool_)])
        return new

    def remove_item(self) -> Thing:
        """Let one live item go."""
        gone = int(self._rng.choice(np.flatnonzero(self.live)))
        self.live[gone] = False
        return self.things[gone]

    def wander(self, users: Indices, step: float) -> None:
        """Let tastes drift a little, in random directions."""
        moved = step * self._rng.standard_normal((len(users), DIMENSION)) / np.sqrt(DIMENSION)
        self.tastes[users] = _unit(self.tastes[users] + moved)

    def upheaval(self, share: float) -> Indices:
        """Give this share of the users wholly new tastes: the planted drift."""
        turned = np.flatnonzero(self._rng.random(len(self.tastes)) < share)
        self.tastes[turned] = self._new_tastes(len(turned))
        return turned

    def cosines(self, users: Indices) -> Floats:
        """How well items suit users, float64[n, I]."""
        return self.tastes[users] @ self.latent.T

    def choice(self, cosines: Floats) -> Floats:
        """Probability with which each user, left alone, would pick each item, float64[n, I]."""
        return self.softmax(_SHARPNESS * cosines + self.quality, self.live)

    @staticmethod
    def softmax(scores: Floats, allowed: NDArray[np.bool_]) -> Floats:
        """Probabilities over the allowed items, float64[n, I]; zeros where none is."""
        if not allowed.any():
            return np.zeros_like(scores)
        scores = np.where(allowed, scores, -np.inf)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances: Floats = raised / raised.sum(axis=1, keepdims=True)
        return chances

    def _new_tastes(self, count: int) -> Floats:
        rng = self._rng
        picked = np.argsort(rng.random((count, len(TOPICS))), axis=1)[:, :2]
        weight = rng.uniform(0.4, 1.0, size=(count, 2, 1))
        towards = (self._centres[picked] * weight).sum(axis=1)
        return _unit(towards + 0.5 * _unit(rng.standard_normal((count, DIMENSION))))


def _unit(vectors: Floats) -> Floats:
    units: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units
