"""A version that comes against the one that is there, before anybody reads it.

Two versions make two spaces. A reader that holds users of one and items of the other sees what the
spaces have in common, which a rotation alone can bring to nothing; so users and items are measured
across, on the last clicks. Of a fixed sample of users, how much of their lists stays.
"""

import heapq
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from consumers.decisions import Skew, Stability
from consumers.evaluator import Question
from consumers.live import LiveModel
from consumers.no_harm import Budgets, told
from consumers.scores import K
from model.confidence import ConfidenceSequence
from model.ranking import hits
from model.rotation import Turn, measure
from stream.edges import positive
from stream.graph import Graph

_USERS = 16  # scored at a time
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What a first look at a version has shown.

    Attributes
    ----------
    skew : Skew
    stability : Stability
    own : ConfidenceSequence
        Of its own hits minus those of the version that is there.
    """

    skew: Skew
    stability: Stability
    own: ConfidenceSequence


def look(asked: NDArray[np.int64], coming: LiveModel, live: LiveModel, budgets: Budgets) -> Look:
    """Ask again what was asked last, of all four pairs of users and items.

    Every item known now takes part, with its popularity as of now; users are as of each click.

    Parameters
    ----------
    asked : int64[n]
        Numbers of the edges that were scored.
    """
    sequence = _still_there(live.graph, asked)
    users = {one: one.context_vectors(sequence) for one in (coming, live)}
    items = {one: one.item_vectors() for one in (coming, live)}
    target = live.graph.edges.item(sequence).astype(np.int64)
    question = Question(sequence, target, live.graph.seen_before(sequence), live.showable())

    def hit(of: LiveModel, on: LiveModel) -> NDArray[np.float64]:
        return hits(question.ranks(users[of], items[on]), K)

    new, old = hit(coming, coming), hit(live, live)
    own = budgets.sequence()
    own.update(new - old)
    turn = _turn(items[coming][:, :-1], items[live][:, :-1], coming, live)
    skew = Skew(
        events=len(sequence),
        new=_mean(new),
        old=_mean(old),
        new_users=_mean(hit(coming, live)),
        old_users=_mean(hit(live, coming)),
        own=told(own),
        rows=turn.rows,
        moved=round(turn.moved, 6),
        residual=round(turn.residual, 6),
        degrees=round(turn.degrees, 6),
    )
    return Look(skew, _stability(coming, live, items, budgets.users), own)


def in_place(skew: Skew, budgets: Budgets) -> bool:
    """Whether a version may be written into the collections that are live, one point by another."""
    return (
        skew.loss is not None
        and budgets.skew > 0
        and skew.rows > 0
        and skew.events >= budgets.asked_least
        and skew.loss <= budgets.skew
        and skew.residual <= budgets.residual
    )


def _still_there(graph: Graph, asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those that were neither evicted nor erased since, nor were of items removed since."""
    kept = asked[asked >= graph.edges.first]
    kept = kept[positive(graph.edges.kind(kept))]
    removed = graph.catalog.removed(len(graph.items))
    there: NDArray[np.int64] = kept[~removed[graph.edges.item(kept)]]
    return there


def _turn(
    new: NDArray[np.float32], old: NDArray[np.float32], coming: LiveModel, live: LiveModel
) -> Turn:
    both = min(len(coming.learned), len(live.learned))
    rows = np.flatnonzero(coming.learned[:both] & live.learned[:both])
    return measure(new[rows], old[rows], len(coming.config.half_lives))


def _stability(
    coming: LiveModel, live: LiveModel, items: dict[LiveModel, NDArray[np.float32]], most: int
) -> Stability:
    users = _sample(live.graph, most)
    shown = live.showable()
    k = min(K, int(shown.sum()))
    if not len(users) or not k:
        return Stability(users=0, overlap=1.0, churned=0.0)
    shares: list[float] = []
    for start in range(0, len(users), _USERS):
        some = users[start : start + _USERS]
        pair = (_best(one.user_vectors(some), items[one], shown, k) for one in (coming, live))
        for mine, other in zip(*pair, strict=True):
            shares.append(len(np.intersect1d(mine, other)) / k)
    share = np.array(shares)
    return Stability(
        users=len(users),
        overlap=round(float(share.mean()), 6),
        churned=round(float((share < _HALF).mean()), 6),
    )


def _sample(graph: Graph, most: int) -> NDArray[np.int32]:
    """Users of the smallest hashes: the same ones at every version, but for new users."""
    hashed = ((crc32(name.encode()), n) for n, name in enumerate(graph.users.names) if name)
    return np.array(sorted(n for _, n in heapq.nsmallest(most, hashed)), np.int32)


def _best(
    users: NDArray[np.float32], items: NDArray[np.float32], shown: NDArray[np.bool_], k: int
) -> NDArray[np.int64]:
    """The k best items of each user that may be shown, int64[n, k], in no order."""
    scores = users @ items.T  # [n, I]
    scores[:, ~shown] = -np.inf
    best: NDArray[np.int64] = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    return best


def _mean(hit: NDArray[np.float64]) -> float | None:
    return round(float(hit.mean()), 6) if len(hit) else None
