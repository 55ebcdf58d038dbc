"""What the tests of trials share: users who keep to a genre, and versions good and bad at that."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from consumers.campaigns import Campaigns
from consumers.decisions import Decided
from consumers.evaluator import Evaluator
from consumers.live import LiveModel
from consumers.manifest_steps import Origin
from consumers.no_harm import Budgets
from consumers.pipeline import Pipeline
from consumers.publisher import Publisher
from consumers.returning import go_back
from consumers.shaping import Shaper, ShapingRules
from consumers.trial import Trial, Way
from consumers.versions import Version
from model.config import ModelConfig
from model.recency import plain
from model.state import ModelState
from stream.clock import ManualClock
from stream.graph import Applied, Graph
from tests.consumers.test_evaluator import apply

GENRES, EACH, USERS = 6, 30, 300
ITEMS = [f"i{n}" for n in range(GENRES * EACH)]
CONFIG = ModelConfig(
    dim=8, context=4, half_lives=(1.0, 4.0), popularity_weight=0.0, popularity_weights=(0.0,)
)
Vectors = NDArray[np.float32]


class Fixed(Version):
    """A version whose arrays are at hand."""

    def load(self) -> ModelState:
        state = self.meta["state"]
        assert isinstance(state, ModelState)
        return state

    @property
    def origin(self) -> Origin:
        return Origin(model=str(self.number))


def good(seed: int = 1) -> Vectors:
    """Items of a genre point in one direction, nearly."""
    z = np.random.default_rng(seed).normal(0, 0.05, (len(ITEMS), 8))
    z[np.arange(len(ITEMS)), np.arange(len(ITEMS)) // EACH] += 1
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True), np.float32)


def shuffled(z: Vectors, rows: NDArray[np.int64] | None = None) -> Vectors:
    """The vectors of these items, or of all, given to others of them."""
    of = np.arange(len(z)) if rows is None else rows
    out = z.copy()
    out[of] = z[np.random.default_rng(2).permutation(of)]
    return out


def rotated(z: Vectors) -> Vectors:
    """The same space, turned by a right angle in each group of dimensions."""
    turn = np.zeros((8, 8), np.float32)
    for group in (0, 4):
        for one in range(4):
            turn[group + one, group + (one + 1) % 4] = 1
    return np.asarray(z @ turn, np.float32)


def version(z: Vectors, number: int) -> Fixed:
    recency = plain(np.array([1, 0, 0, 0], np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    state = ModelState(z, recency, np.ones(len(z), np.bool_), parameters, trained_upto=0)
    return Fixed(number, 1, Path(), {"state": state})


class Site:
    """A stream, a live version and what is on trial beside it."""

    def __init__(self, publisher: Publisher, budgets: Budgets, *, held: bool) -> None:
        self.publisher, self.clock = publisher, ManualClock()
        self.trial = Trial(budgets, self.clock if held else None)
        self.graph = Graph()
        self._rng, self._asked = np.random.default_rng(3), 0
        self.live = LiveModel(self.graph, CONFIG)
        self.evaluator = Evaluator(
            self.graph, self.live, compare_static=False, beside=self.trial.see
        )
        self.campaigns = Campaigns(self.graph, None)
        self.shaper = Shaper(ShapingRules(), np.random.default_rng(3))
        self.known = 0
        warm = [(f"warm{n}", item) for item in ITEMS for n in range(8)]
        self._take(apply(self.graph, *warm))
        self.adopt(good(), 1)

    def clicks(self, n: int, items: slice = slice(None)) -> None:
        """So many users click two items of their genre each; the second is what tells."""
        names = np.array(ITEMS).reshape(GENRES, EACH)[:, items]
        rows: list[tuple[str, str]] = []
        for _ in range(n):
            self._asked += 1
            pair = self._rng.choice(names[self._asked % GENRES], 2, replace=False)
            rows += [(f"u{self._asked}", str(item)) for item in pair]
        self._take(apply(self.graph, *rows))

    def _take(self, applied: Applied) -> None:
        known, self.known = self.known, len(self.graph.items)
        self.evaluator.score(applied, catalogue=known or self.known, history=False)
        for live in (self.live, *self.trial.beside):
            live.learn(applied)

    def serve(self, live: LiveModel) -> None:
        self.live = live
        self.evaluator.follow(live)

    def coming(self, z: Vectors, number: int) -> Iterator[None]:
        way = Way(self.publisher, self.campaigns, self.shaper, self.serve)
        return self.trial.bring(version(z, number), self.live, way)

    def adopt(self, z: Vectors, number: int, meanwhile: Callable[[], None] | None = None) -> None:
        """Bring a version, with this between two of its steps."""
        for _ in self.coming(z, number):
            if meanwhile is not None:
                meanwhile()

    def reopened(self, publisher: Publisher, opened: Callable[[int], Version]) -> None:
        """As after a crash: what a snapshot held, under another publisher."""
        arrays = self.trial.to_arrays()
        self.publisher = publisher
        self.trial = Trial(self.trial.budgets, self.trial.clock)
        self.trial.restore(arrays, self.live, opened)
        self.evaluator.beside = self.trial.see

    def take_back(self) -> bool:
        """Return to the version before, if that is wanted."""
        if (before := self.trial.wanted_back) is None:
            self.trial.note(self.publisher)
            return False
        self.trial.take_back(self.publisher, before)
        for _ in go_back(cast(Pipeline, self), before):  # what it asks of a pipeline is here
            pass
        return True

    @property
    def decided(self) -> list[Decided]:
        lines = self.publisher.record.manifest.lines
        return [line.body for line in lines if isinstance(line.body, Decided)]

    @property
    def verdicts(self) -> list[str]:
        return [one.verdict for one in self.decided]
