"""Impressions that nothing has answered, beside the positive events of a `Dataset`."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.data import Interactions, interactions
from stream.batch import Kind
from stream.graph import Graph

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Impressions that nothing has answered, in order of arrival.

    Attributes
    ----------
    user, item, time_us : int64[S]
    weight : float32[S]
        Of an impression, times what its position and propensity say; not negative.
    place : int64[S]
        Positive events that arrived before it, ascending.
    wait_us : int
        Time after which it is known that nothing answers.
    """

    user: Ints
    item: Ints
    time_us: Ints
    weight: NDArray[np.float32]
    place: Ints
    wait_us: int

    def beside(self, positives: Interactions, end: int) -> Interactions:
        """The first ``end`` positive events, with the impressions of which was known by then
        that nothing answers."""
        now_us = int(positives.time_us.max(initial=0))
        n = int(np.searchsorted(self.place, end, side="right"))
        known = (self.time_us[:n] < now_us - self.wait_us) & (self.item[:n] < positives.items)
        at = np.flatnonzero(known)
        return interactions(
            np.concatenate([positives.owners(), self.user[at]]),
            np.concatenate([positives.item, self.item[at]]),
            items=positives.items,
            users=positives.users,
            time_us=np.concatenate([positives.time_us, self.time_us[at]]),
            weight=np.concatenate([positives.weight, self.weight[at]]),
            positive=np.arange(len(positives) + len(at)) < len(positives),
            # Numbers tell positive events that are new; an impression's is that of the last before.
            sequence=np.concatenate([positives.sequence, np.maximum(self.place[at] - 1, 0)]),
        )


def passed_over(graph: Graph, positives: Ints) -> PassedOver | None:
    """What a graph's users have passed over in the end; None for nothing.

    Weights are as of positive events in a comparison, which do not decay.

    Parameters
    ----------
    positives : int64[E]
        Sequences of the positive events, ascending.
    """
    view = graph.view()
    timeless = replace(view, config=replace(view.config, half_life_us=None))
    csr = timeless.csr(impressions=True)
    user = np.repeat(np.arange(view.n_users), np.diff(csr.indptr))
    missed = np.flatnonzero(csr.kind == Kind.IMPRESSION)
    if not len(missed):
        return None
    missed = missed[np.argsort(csr.sequence[missed])]
    return PassedOver(
        user=user[missed],
        item=csr.item[missed].astype(np.int64),
        time_us=csr.time_us[missed],
        weight=-csr.weight[missed],
        place=np.searchsorted(positives, csr.sequence[missed]),
        wait_us=view.config.answer_us,
    )
