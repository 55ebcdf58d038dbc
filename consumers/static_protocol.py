"""Methods compared on a fixed split, as in MMRec: learn from train, choose on valid, test once.

For each user who has items in the part that is asked, all items of the split are ranked, less the
user's items of train. Items of valid are not left out when test is asked. What chooses settings is
handed the questions of valid alone.

References
----------
Zhou: MMRec: Simplifying Multimodal Recommendation, MMAsia 2023.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from consumers.dataset import Dataset, Ints, Past, dataset
from consumers.methods import Floats, Make, Method, Question, Setting
from consumers.scores import K
from model.data import Features
from model.ranking import discounted_gains, hits, ranks_of
from stream.splits import TRAIN, Split

CHUNK = 500
"""Users whose scores are held at a time."""


@dataclass(frozen=True, slots=True)
class Questions:
    """One part of a split, asked of those who learned from train.

    Attributes
    ----------
    data : Dataset
        The events of train, and behind them one of each user asked.
    train : int
        How many come first.
    past : Past
        What each asked user has in train.
    indptr, target : int64[n + 1], int64[m]
        Items of the part by user asked (CSR).
    """

    data: Dataset
    train: int
    past: Past
    indptr: Ints
    target: Ints

    def chunks(self) -> "Iterator[Chunk]":
        """The users asked, `CHUNK` at a time."""
        for start in range(0, len(self.indptr) - 1, CHUNK):
            indptr = self.indptr[start : start + CHUNK + 1]
            event = self.train + start + np.arange(len(indptr) - 1)
            row = np.repeat(np.arange(len(event)), np.diff(indptr))
            target = self.target[indptr[0] : indptr[-1]]
            seen = self.past.before(event[row])
            yield Chunk(Question(event, self.data.user[event], self.past), row, target, seen)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some users asked, and where each of their items is to be found among the scores."""

    question: Question
    row: Ints
    target: Ints
    seen: tuple[Ints, Ints]

    def ranks(self, scores: Floats) -> NDArray[np.float64]:
        """Mid-rank of each item of the part among all but the user's of train, float64[m]."""
        return ranks_of(scores[self.row], self.target, self.seen)


@dataclass(frozen=True, slots=True)
class Contender:
    """A method that takes part.

    Attributes
    ----------
    settings : each learned with
    terms : what else is learned and added to the scores
    weights : of the terms; each tried without learning again, none is zero
    seeded : whether the seed matters
    most_items : size of catalogue beyond which it does not take part
    """

    name: str
    make: Make
    settings: Sequence[Setting] = ({},)
    terms: Mapping[str, Make] = field(default_factory=dict[str, Make])
    weights: Sequence[Mapping[str, float]] = ({},)
    seeded: bool = True
    most_items: int | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """A method and its terms that have learned, and the processor seconds the method took."""

    method: Method
    terms: Mapping[str, Method]
    cpu_s: float

    def scores(self, question: Question) -> tuple[Floats, Mapping[str, Floats]]:
        """Scores of the method and of each term, float32[n, I]."""
        return (
            self.method.scores(question),
            {name: term.scores(question) for name, term in self.terms.items()},
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The setting and weights that did best on valid, with what has been learned by them.

    ``terms_s`` are processor seconds of the terms' learning, ``cpu_s`` of the whole choice.
    """

    setting: Setting
    weights: Mapping[str, float]
    recall: float
    ndcg: float
    learned: Learned
    terms_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Recall@20 and NDCG@20 of each user asked, float64[n], and processor seconds of answering."""

    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]
    cpu_s: float = 0.0


def questions(split: Split, part: int, features: Mapping[str, Features] | None = None) -> Questions:
    """What is asked of a part; of the others only train is looked at.

    An item that its user has in train as well is left out: nobody could find it.
    """
    train, asked = split.part == TRAIN, split.part == part
    key = split.user * max(split.items, 1) + split.item
    wanted = np.setdiff1d(key[asked], key[train])
    owner, target = np.divmod(wanted, max(split.items, 1))
    users, count = np.unique(owner, return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(count)])
    user = np.concatenate([split.user[train], users])
    data = dataset(
        user,
        np.concatenate([split.item[train], target[indptr[:-1]]]),
        np.zeros(len(user), np.int64),
        known=np.full(len(user), split.items),
        items=split.items,
        features=features,
    )
    data = replace(data, users=split.users)
    return Questions(data, int(train.sum()), Past(data), indptr, target)


def learn(
    contender: Contender, setting: Setting, terms: Mapping[str, Method], data: Questions, seed: int
) -> Learned:
    """Have a method learn from train; the terms have already."""
    begun = time.process_time()
    method = contender.make(setting, seed)
    method.learn(data.data, data.train)
    return Learned(method, terms, time.process_time() - begun)


def choose(contender: Contender, valid: Questions, seed: int) -> Choice:
    """Learn with each setting, try all weights, keep what has the best recall@20 on valid."""
    begun = time.process_time()
    terms = {name: make({}, seed) for name, make in contender.terms.items()}
    for term in terms.values():
        term.learn(valid.data, valid.train)
    terms_s = time.process_time() - begun
    best: Choice | None = None
    for setting in contender.settings:
        learned = learn(contender, setting, terms, valid, seed)
        for weights, found in zip(
            contender.weights, answer(learned, contender.weights, valid), strict=True
        ):
            recall, ndcg = float(found.recall.mean()), float(found.ndcg.mean())
            if best is None or recall > best.recall:
                best = Choice(setting, weights, recall, ndcg, learned, terms_s, 0.0)
    if best is None:
        raise ValueError(f"{contender.name} has no settings or no weights to choose from")
    return replace(best, cpu_s=time.process_time() - begun)


def answer(
    learned: Learned, weights: Sequence[Mapping[str, float]], asked: Questions
) -> list[Figures]:
    """Figures of the users asked, by weights of the terms."""
    begun = time.process_time()
    ranks: list[list[NDArray[np.float64]]] = [[] for _ in weights]
    for chunk in asked.chunks():
        scores, terms = learned.scores(chunk.question)
        for one, found in zip(weights, ranks, strict=True):
            added = scores.copy()
            for name, weight in one.items():
                added += np.float32(weight) * terms[name]
            found.append(chunk.ranks(added))
    spent = time.process_time() - begun
    return [
        replace(by_user(np.concatenate([np.zeros(0), *found]), asked.indptr), cpu_s=spent)
        for found in ranks
    ]


def by_user(ranks: NDArray[np.float64], indptr: Ints) -> Figures:
    """Recall@20 and NDCG@20 of each user.

    recall = Σ_i [r_i <= 20] / n, ndcg = Σ_i [r_i <= 20] / log2(1 + r_i) over the same of the ranks
    1 .. min(n, 20), i over the user's n items.

    Parameters
    ----------
    ranks : float64[m]
        Among all items that are not left out, the user's others included.
    indptr : int64[n + 1]
        CSR by user; nobody is without items.
    """
    count = np.diff(indptr)
    row = np.repeat(np.arange(len(count)), count)
    found = np.bincount(row, hits(ranks, K), len(count))
    gained = np.bincount(row, discounted_gains(ranks, K), len(count))
    ideal = np.cumsum(discounted_gains(np.arange(1.0, K + 1), K))[np.minimum(count, K) - 1]
    return Figures(found / count, gained / ideal)
