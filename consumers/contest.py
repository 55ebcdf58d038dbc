"""Methods compared on one stream under one protocol: each event ranked before it is learned from.

Every method answers the same questions over the same items: those known before the event, less
what the user had. Rounds of learning are the same for all; a method's recent popularity, if it
has any, is told of events every few hundred, as the live path does.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from consumers.dataset import Dataset, HeldBack, Ints, Past, firsts
from consumers.methods import Floats, Goat, Make, Method, Prior, Question, Setting
from consumers.scores import K
from model.ranking import ranks_of, recall_at
from model.terms import Terms

CHUNK = 500
"""Events between two refreshes of popularity, and rows of scores held at a time."""
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
VALID = 2_000
"""Events that a setting is chosen on, at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A method that takes part.

    Attributes
    ----------
    settings : tried on the validation events when there are several
    priors : (weight, half-life) of the popularity added to its scores, likewise
    floor : count that popularity gives every item
    most_items : size of catalogue beyond which it does not take part
    seeded : whether the seed matters
    online : learns again each round; otherwise only in the first
    """

    name: str
    make: Make
    settings: Sequence[Setting] = ({},)
    priors: Sequence[tuple[float, float]] = ((0.0, 1.0),)
    seeded: bool = True
    online: bool = True
    floor: float = 0.5
    most_items: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A setting, how it did on the validation events, and the processor time of choosing."""

    setting: Setting
    prior: tuple[float, float]
    recall: float | None = None
    cpu_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What a method did.

    Attributes
    ----------
    event : int64[n]
        Events scored, the same for every method.
    ranks, strict : float64[n]
        With all that the user had before the event; without its events of the same instant or
        day, neither as context nor as items that are left out of the ranking.
    round : int64[n]
    top : int64[n, K]
        Items it would have shown, -1 where there were fewer.
    learn_s : list of float
        Processor seconds of each round.
    score_s : float
        Of answering.
    terms : list of Terms
        What ours added to the cosine, by round.
    """

    event: Ints
    ranks: NDArray[np.float64]
    strict: NDArray[np.float64]
    round: Ints
    top: Ints
    learn_s: list[float]
    score_s: float
    terms: list[Terms] = field(default_factory=list[Terms])


@dataclass(slots=True)
class _Parts:
    event: list[Ints] = field(default_factory=list[Ints])
    plain: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    strict: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    round: list[Ints] = field(default_factory=list[Ints])
    top: list[Ints] = field(default_factory=list[Ints])


def rounds(data: Dataset, *, base_share: float | None, slices: int, every: int | None) -> Ints:
    """Where each round of learning stands, and the end: int64[R + 1].

    Parameters
    ----------
    base_share : float, optional
        Part of the events that is learned first, the rest cut in ``slices`` equal ones. None: from
        the first event on (after the history), a round every ``every`` events.
    """
    if base_share is not None:
        first = max(data.history, int(len(data) * base_share))
        return np.unique(np.linspace(first, len(data), slices + 1).astype(np.int64))
    step = every or max(1, (len(data) - data.history) // (slices * 2))
    marks = np.arange(data.history or step, len(data), step)
    return np.append(marks, len(data)).astype(np.int64)


def choose(data: Dataset, past: Past, entry: Entry, upto: int) -> Chosen:
    """Try the settings on the last tenth of the first ``upto`` events; nothing later is seen."""
    if len(entry.settings) * len(entry.priors) == 1:
        return Chosen(entry.settings[0], entry.priors[0])
    begun = time.process_time()
    edge = upto - max(upto // 10, 1)
    # Kinds that are not scored, and history, serve as questions here: they are events as well.
    event = np.arange(edge, upto)[firsts(data.user, data.item, data.items)[edge:upto]]
    event = event[:: max(1, len(event) // VALID)]
    tried: list[Chosen] = []
    for setting in entry.settings:
        method = entry.make(setting, 0)
        method.learn(data, edge)
        for prior, recall in zip(
            entry.priors, _tried(data, past, method, event, entry), strict=True
        ):
            tried.append(Chosen(setting, prior, recall))
    best = max(tried, key=lambda one: one.recall or 0.0)
    return replace(best, cpu_s=time.process_time() - begun)


def _tried(
    data: Dataset,
    past: Past,
    method: Method,
    event: Ints,
    entry: Entry,
) -> list[float]:
    hits: list[list[float]] = [[] for _ in entry.priors]
    terms = [Prior(*prior, entry.floor) for prior in entry.priors]
    for start in range(0, len(event), CHUNK):
        part = event[start : start + CHUNK]
        scores, seen = method.scores(Question(part, data.user[part], past)), past.before(part)
        for term, found in zip(terms, hits, strict=True):
            added = scores + term.scores(data, int(part[0]))
            ranks = ranks_of(added, data.item[part], seen, known=data.known[part])
            found.extend((ranks <= K).tolist())
    return [float(np.mean(found)) if found else 0.0 for found in hits]


def compete(
    data: Dataset,
    past: Past,
    entry: Entry,
    chosen: Chosen,
    *,
    marks: Ints,
    seed: int,
    strict: HeldBack = "instant",
    said: Callable[[str], None],
) -> Outcome:
    """Learn up to each mark, then score what comes before the next.

    Parameters
    ----------
    strict
        What the strict ranks hold back.
    """
    method, prior = entry.make(chosen.setting, seed), Prior(*chosen.prior, entry.floor)
    parts, learn_s, terms = _Parts(), list[float](), list[Terms]()
    begun = time.process_time()
    for number, (start, stop) in enumerate(
        zip(marks[:-1].tolist(), marks[1:].tolist(), strict=True)
    ):
        if entry.online or number == 0:
            before = time.process_time()
            method.learn(data, start)
            learn_s.append(time.process_time() - before)
        if isinstance(method, Goat):
            terms.append(method.terms)
        for at in range(start, stop, CHUNK):
            end = min(at + CHUNK, stop)
            event = np.arange(at, end)[data.asked[at:end]]
            answer = _Asked(data, past, event, prior.scores(data, at), at)
            parts.event.append(event)
            parts.plain.append(answer.ranks(method, "plain", parts.top))
            parts.strict.append(answer.ranks(method, strict))
            parts.round.append(np.full(len(event), number))
        said(
            f"{entry.name}: round {number + 1} of {len(marks) - 1}, recall@20 "
            f"{recall_at(np.concatenate(parts.plain), K):.4f} so far"
        )
    return Outcome(
        np.concatenate(parts.event),
        np.concatenate(parts.plain),
        np.concatenate(parts.strict),
        np.concatenate(parts.round),
        np.concatenate(parts.top),
        learn_s,
        time.process_time() - begun - sum(learn_s),
        terms,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Events, and what is added to every method's scores for them."""

    data: Dataset
    past: Past
    event: Ints
    term: Floats
    told: int

    def ranks(
        self, method: Method, held_back: HeldBack, top: list[Ints] | None = None
    ) -> NDArray[np.float64]:
        """Rank of each event's item, float64[n]; the best items go to ``top``."""
        event, data = self.event, self.data
        known, target = data.known[event], data.item[event]
        question = Question(event, data.user[event], self.past, held_back, self.told)
        scores = method.scores(question) + self.term
        bar = scores[np.arange(len(event)), target].copy()
        ranks = ranks_of(scores, target, self.past.before(event, held_back), known=known)
        if top is not None:
            shown = np.flatnonzero(target < known)
            scores[shown, target[shown]] = bar[shown]
            top.append(_top(scores))
        return ranks


def _top(scores: Floats) -> Ints:
    """The K best of each row, in no order; -1 for what may not be shown."""
    n = min(K, scores.shape[1])
    if not len(scores):
        return np.zeros((0, n), np.int64)
    best = np.argpartition(-scores, n - 1, axis=1)[:, :n]
    return np.where(np.isfinite(np.take_along_axis(scores, best, 1)), best, -1).astype(np.int64)
