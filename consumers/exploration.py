"""Showing now and then what would not have been shown, with the exact probability of each.

Of ``k`` slots and a pool of ``m`` further candidates, each of the last ``min(k, m)`` slots explores
with probability ε, independently. The slots that explore are filled by further candidates drawn
without replacement, all orders being equally likely; the others keep what they had. So for every
slot, whatever the others do:

    P(the slot shows its own item)         = 1 - ε
    P(the slot shows further candidate x)  = ε / m

because by symmetry the candidate that a given exploring slot gets is uniform over all m. Slots that
cannot explore show their own item with probability 1. These are marginal probabilities, as inverse
propensity estimators want them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slot(Generic[T]):
    """What a place of a list shows, and how probable that was.

    Attributes
    ----------
    propensity : float
        Above 0, at most 1.
    explored : bool
    """

    shown: T
    propensity: float
    explored: bool


def explore(
    own: Sequence[T], further: Sequence[T], epsilon: float, rng: np.random.Generator
) -> list[Slot[T]]:
    """Fill the slots of a list; see the module for the probabilities.

    Parameters
    ----------
    own : what each slot shows without exploration
    further : candidates that are in no slot
    epsilon : float
        0 to 1.
    """
    k, m = len(own), len(further)
    able = min(k, m) if epsilon > 0 else 0
    explores = rng.random(k) < epsilon
    explores[: k - able] = False
    drawn = iter(rng.permutation(m)[: int(explores.sum())].tolist() if able else [])
    slots: list[Slot[T]] = []
    for place in range(k):
        if explores[place]:
            slots.append(Slot(further[next(drawn)], epsilon / m, explored=True))
        else:
            stays = 1.0 - epsilon if place >= k - able else 1.0
            slots.append(Slot(own[place], stays, explored=False))
    return slots
