"""Prequential evaluation: every click is ranked before anything is learned from it.

Each scored event asks: had we been asked for candidates just before it, at what rank among the
whole live catalogue would its item have stood? Ties count at their middle rank; items the user
has already had are left out of the ranking, and a repeated item is not a question at all (it is
counted as ``repeats``). An item nobody had heard of before the event counts as a miss.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consumers.live import LiveModel
from consumers.scores import BASELINE_HALF_LIVES, SCORED_KINDS, K, Lately, Score
from model.popularity import Popularity
from model.ranking import mid_ranks
from stream.batch import Kind
from stream.graph import Applied, Graph
from stream.histories import Recent

_NOBODY = np.empty(0, np.int32)
FLOOR = 1e-6  # count of an item without events: below every other, tied among themselves


def _alone(question: "Question", ranks: NDArray[np.float64]) -> None:
    del question, ranks


@dataclass(slots=True)
class Evaluator:
    """Scores the model in use, static user vectors and windowed popularity on one stream.

    The popularity that is reported is the best of several windows (exponential half-lives, in
    events), chosen in hindsight: the baseline gets the advantage.

    Parameters
    ----------
    compare_static : bool
        Whether static user vectors are scored too; they cost memory for every user.
    share : float
        Part of the events that is scored, in (0, 1]; for catalogues where all are too dear.
        Sampled by the hash-like low digits of the edge number, so a replay scores the same ones.
    beside : callable
        Told every question, with the ranks that the model in use gave.
    """

    graph: Graph
    live: LiveModel
    share: float = 1.0
    compare_static: bool = True
    beside: "Callable[[Question, NDArray[np.float64]], None]" = _alone
    model: Score = field(default_factory=Score)
    static: Score = field(default_factory=Score)
    repeats: int = 0
    popularity: dict[float, Score] = field(
        default_factory=lambda: {h: Score() for h in BASELINE_HALF_LIVES}
    )
    _counts: dict[float, Popularity] = field(
        default_factory=lambda: {h: Popularity(h, FLOOR) for h in BASELINE_HALF_LIVES}
    )
    _static: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    _lately: Lately = field(default_factory=Lately)
    _baseline_lately: Lately = field(default_factory=Lately)

    def score(self, applied: Applied, *, catalogue: int, history: bool) -> None:
        """Rank the items of a batch just applied, as if asked before it.

        Parameters
        ----------
        applied : Applied
            The graph has these edges; the model and the counts have not learned from them.
        catalogue : int
            Items known before the batch.
        history : bool
            Learned from, never scored.
        """
        positive = applied.kind != Kind.IMPRESSION
        if self.live.ready and not history:
            self._score(applied, catalogue)
        for counts in self._counts.values():
            counts.update(applied.item[positive], len(self.graph.items))

    def _score(self, applied: Applied, catalogue: int) -> None:
        asked = np.flatnonzero(np.isin(applied.kind, SCORED_KINDS) & self._sampled(applied))
        indptr, seen = self.graph.seen_before(applied.sequence[asked])
        fresh = ~_contains(indptr, seen, applied.item[asked])
        self.repeats += int((~fresh).sum())
        asked = asked[fresh]
        if not len(asked):
            return
        sequence, user = applied.sequence[asked], applied.user[asked]
        question = Question(
            sequence,
            applied.item[asked].astype(np.int64),
            self.graph.seen_before(sequence),
            self._shown(catalogue),
        )
        items = self.live.item_vectors()
        ranks = question.ranks(self.live.context_vectors(sequence), items)
        recall = self.model.add(ranks)
        self.beside(question, ranks)
        if self.compare_static:
            self.static.add(question.ranks(self._static_vectors(user), items))
        self._roll(recall, question)

    def _shown(self, catalogue: int) -> NDArray[np.bool_]:
        """Which items could have been shown before the batch: known by then, and not removed."""
        shown = self.live.showable()
        shown[catalogue:] = False
        return shown

    def _roll(self, recall: NDArray[np.float64], question: "Question") -> None:
        self._lately.add(recall)
        ones = np.ones((len(recall), 1), np.float32)
        hits = {}
        for half_life, score in self.popularity.items():
            counts = self._counts[half_life]
            counts.update(_NOBODY, len(self.graph.items))
            table = counts.scores()[:, None]
            hits[half_life] = score.add(question.ranks(ones, table))
        self._baseline_lately.add(hits[self.best_half_life])

    def follow(self, live: LiveModel) -> None:
        """Score another version from now on.

        Static user vectors are those of the events that this version has learned from.
        """
        self.live = live
        if not self.compare_static:
            return
        csr, length = self.graph.view().csr(), self.live.context
        kept = csr.sequence < self.live.trained_upto
        ends = np.append(0, np.cumsum(kept))[csr.indptr]
        user = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        age = ends[user + 1] - 1 - np.arange(len(user))
        within = age < length
        history = _nothing(len(ends) - 1, length)
        history.item[user[within], age[within]] = csr.item[kept][within]
        history.time_us[user[within], age[within]] = csr.time_us[kept][within]
        self._static = self.live.fold(history)

    def _static_vectors(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        known = users < len(self._static)
        vectors = self.live.fold(_nothing(len(users), 1))
        vectors[known] = self._static[users[known]]
        return vectors

    def _sampled(self, applied: Applied) -> NDArray[np.bool_]:
        if self.share >= 1.0:
            return np.ones(len(applied.sequence), np.bool_)
        # Knuth's multiplicative hash spreads consecutive numbers evenly.
        spread = applied.sequence.astype(np.uint64) * np.uint64(2_654_435_761) % np.uint64(1 << 32)
        return spread < np.uint64(int(self.share * (1 << 32)))

    @property
    def best_half_life(self) -> float:
        """The popularity window that did best so far."""
        return max(self.popularity, key=lambda h: self.popularity[h].recall)

    @property
    def recall_lately(self) -> float | None:
        """Recall@20 over the last events scored."""
        return self._lately.mean

    @property
    def popularity_recall_lately(self) -> float | None:
        """Recall@20 of windowed popularity over the last events scored."""
        return self._baseline_lately.mean

    def figures(self) -> dict[str, object]:
        """All figures as JSON."""
        best = self.best_half_life
        return {
            "scored_events": self.model.events,
            "scored_share": self.share,
            "repeats_not_scored": self.repeats,
            **self.model.means(),
            **{f"static_user_{k}": v for k, v in self.static.means().items()},
            **{f"popularity_{k}": v for k, v in self.popularity[best].means().items()},
            "popularity_half_life": best,
            f"popularity_recall@{K}_by_half_life": {
                str(h): s.means()[f"recall@{K}"] for h, s in self.popularity.items()
            },
        }

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """State as named arrays for a snapshot."""
        scores = [self.model, self.static, *self.popularity.values()]
        sums = [(s.events, s.recall, s.ndcg, s.mrr) for s in scores]
        arrays: dict[str, NDArray[np.float64]] = {
            "evaluator.sums": np.array(sums, np.float64),
            "evaluator.repeats": np.array([self.repeats], np.float64),
            "evaluator.lately": np.stack([self._lately.values(), self._baseline_lately.values()]),
        }
        for half_life, counts in self._counts.items():
            for name, array in counts.state().items():
                arrays[f"evaluator.popularity.{half_life:g}.{name}"] = array
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Put back what `to_arrays` gave."""
        scores = [self.model, self.static, *self.popularity.values()]
        for score, row in zip(scores, arrays["evaluator.sums"].tolist(), strict=True):
            score.events, (score.recall, score.ndcg, score.mrr) = int(row[0]), row[1:]
        self.repeats = int(arrays["evaluator.repeats"][0])
        recent = arrays["evaluator.lately"]
        self._lately.add(recent[0])
        self._baseline_lately.add(recent[1])
        for half_life in self._counts:
            prefix = f"evaluator.popularity.{half_life:g}."
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            self._counts[half_life] = Popularity.restore(half_life, FLOOR, own)


@dataclass(frozen=True, slots=True)
class Question:
    """Which items are asked for, which the user has had, which may be shown.

    Attributes
    ----------
    sequence : int64[n]
        Edges of the events.
    target : int64[n]
    seen : (int64[n + 1], int32[*])
    showable : bool[I]
    """

    sequence: NDArray[np.int64]
    target: NDArray[np.int64]
    seen: tuple[NDArray[np.int64], NDArray[np.int32]]
    showable: NDArray[np.bool_]

    def ranks(self, users: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mid-ranks of the targets; inf where the target was unknown or not to be shown."""
        known = self.target < len(items)
        known[known] = self.showable[self.target[known]]
        ranks = np.full(len(self.target), np.inf)
        indptr, seen = self.seen
        take = np.flatnonzero(known)
        lengths = np.diff(indptr)
        mine = np.repeat(known, lengths)
        kept = np.concatenate([[0], np.cumsum(lengths[take])])
        ranks[take] = mid_ranks(
            users[take], items, self.target[take], (kept, seen[mine]), self.showable
        )
        return ranks


def _nothing(users: int, length: int) -> Recent:
    """Histories without an event."""
    return Recent(np.full((users, length), -1, np.int32), np.zeros((users, length), np.int64))


def _contains(
    indptr: NDArray[np.int64], values: NDArray[np.int32], wanted: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Whether row i of a CSR holds ``wanted[i]``."""
    row = np.repeat(np.arange(len(wanted)), np.diff(indptr))
    hit = values == wanted[row]
    return np.bincount(row[hit], minlength=len(wanted)) > 0
