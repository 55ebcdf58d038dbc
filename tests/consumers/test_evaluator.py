from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.evaluator import Evaluator
from consumers.live import LiveModel
from consumers.scores import K, Lately, Score
from consumers.versions import Version
from model.config import ModelConfig
from model.recency import plain
from model.state import ModelState
from stream.batch import EventBatch, Kind, Partition
from stream.graph import Applied, Graph

DIM, CONTEXT = 4, 3
CONFIG = ModelConfig(dim=DIM, context=CONTEXT, popularity_weight=0.0)


class _Fixed(Version):
    """A version whose arrays are at hand."""

    def load(self) -> ModelState:
        state = self.meta["state"]
        assert isinstance(state, ModelState)
        return state


def version(z: NDArray[np.float32], *, upto: int = 0) -> Version:
    recency = plain(np.array([1, 0, 0], np.float32))  # the last item decides alone
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    learned = np.ones(len(z), np.bool_)
    state = ModelState(z, recency, learned, parameters, trained_upto=upto)
    return _Fixed(1, 1, Path(), {"state": state})


def apply(graph: Graph, *rows: tuple[str, str], kind: Kind = Kind.CLICK, at: int = 0) -> Applied:
    n = len(rows)
    first = graph.edges.next + at
    batch = EventBatch(
        partition=Partition("t", 0),
        row=np.arange(n, dtype=np.int64),
        offsets=np.arange(n, dtype=np.int64),
        kind=np.full(n, kind, np.uint8),
        time_us=np.arange(first, first + n, dtype=np.int64),
        event_id=[f"{first}-{i}" for i in range(n)],
        user=[user for user, _ in rows],
        item=[item for _, item in rows],
        refers_to=[""] * n,
    )
    return graph.apply(batch, np.arange(n, dtype=np.int64))


def chain(names: Sequence[str]) -> tuple[Graph, LiveModel, Evaluator]:
    """A graph that knows these items, and a model in which each is nearest to the next."""
    graph = Graph()
    apply(graph, *[("someone", name) for name in names])
    z = np.zeros((len(names), DIM), np.float32)
    for i in range(len(names)):
        z[i, i % DIM], z[i, (i + 1) % DIM] = 0.8, 0.6
    live = LiveModel(graph, CONFIG).successor(version(z, upto=graph.edges.next))
    evaluator = Evaluator(graph, live)
    evaluator.follow(live)
    return graph, live, evaluator


def test_a_click_is_ranked_by_what_came_before_it_and_nothing_else() -> None:
    graph, _, evaluator = chain(["a", "b", "c", "d"])
    applied = apply(graph, ("u", "a"), ("u", "b"), ("v", "d"))
    evaluator.score(applied, catalogue=4, history=False)
    # Before "a" and "d" nothing is known of the user: all four items tie, mid-rank 2.5.
    # Before "b" the user's vector is a's, and "a" itself is seen: b and d tie at .48, mid-rank 1.5.
    assert evaluator.model.events == 3
    assert evaluator.model.mrr == pytest.approx(2 / 2.5 + 1 / 1.5)


def test_an_item_that_nobody_knew_is_a_miss() -> None:
    graph, _, evaluator = chain(["a", "b", "c", "d"])
    evaluator.score(apply(graph, ("u", "new")), catalogue=4, history=False)
    assert (evaluator.model.events, evaluator.model.mrr) == (1, 0.0)


def test_a_repeated_item_is_counted_and_not_scored() -> None:
    graph, _, evaluator = chain(["a", "b"])
    evaluator.score(apply(graph, ("u", "a"), ("u", "a")), catalogue=2, history=False)
    assert (evaluator.model.events, evaluator.repeats) == (1, 1)


@pytest.mark.parametrize("kind", [Kind.IMPRESSION, Kind.VIEW])
def test_what_is_no_click_is_no_question(kind: Kind) -> None:
    graph, _, evaluator = chain(["a", "b"])
    evaluator.score(apply(graph, ("u", "a"), kind=kind), catalogue=2, history=False)
    assert evaluator.model.events == 0


def test_history_is_learned_from_and_never_scored() -> None:
    graph, _, evaluator = chain(["a", "b"])
    evaluator.score(apply(graph, ("u", "a")), catalogue=2, history=True)
    assert evaluator.model.events == 0
    evaluator.score(apply(graph, ("v", "a")), catalogue=2, history=False)
    # "a" leads the popularity counts by what the history gave it.
    assert all(score.mrr == pytest.approx(1.0) for score in evaluator.popularity.values())


def test_a_static_vector_does_not_follow_the_user() -> None:
    graph, live, evaluator = chain(["a", "b", "c", "d"])
    apply(graph, ("u", "a"))
    evaluator.follow(live)  # the version has learned from "someone" only: u is unknown to it
    evaluator.score(apply(graph, ("u", "b")), catalogue=4, history=False)
    assert evaluator.model.mrr > evaluator.static.mrr


def test_before_the_first_version_nothing_is_scored() -> None:
    graph = Graph()
    evaluator = Evaluator(graph, LiveModel(graph, CONFIG))
    evaluator.score(apply(graph, ("u", "a")), catalogue=0, history=False)
    assert evaluator.model.events == 0
    assert evaluator.recall_lately is None
    assert evaluator.popularity_recall_lately is None
    assert evaluator.figures()[f"recall@{K}"] is None


def test_a_sample_is_the_same_in_every_replay() -> None:
    def scored() -> int:
        graph, _, evaluator = chain(["a", "b", "c", "d"])
        evaluator.share = 0.25
        applied = apply(graph, *[(f"u{i}", "a") for i in range(400)])
        evaluator.score(applied, catalogue=4, history=False)
        return evaluator.model.events

    assert scored() == scored()
    assert 60 < scored() < 140


def test_static_scores_can_be_left_out() -> None:
    graph, live, evaluator = chain(["a", "b"])
    evaluator.compare_static = False
    evaluator.follow(live)
    evaluator.score(apply(graph, ("u", "a")), catalogue=2, history=False)
    assert (evaluator.model.events, evaluator.static.events) == (1, 0)


def test_state_and_back() -> None:
    graph, live, evaluator = chain(["a", "b", "c", "d"])
    evaluator.score(apply(graph, ("u", "a"), ("u", "b")), catalogue=4, history=False)
    again = Evaluator(graph, live)
    again.restore(evaluator.to_arrays())
    assert again.figures() == evaluator.figures()
    assert again.recall_lately == evaluator.recall_lately
    more = apply(graph, ("u", "c"))
    for each in (evaluator, again):
        each.follow(live)
        each.score(more, catalogue=4, history=False)
    assert again.figures() == evaluator.figures()


def test_scores_follow_their_definitions() -> None:
    score = Score()
    hits = score.add(np.array([1.0, 3.0, 21.0, np.inf]))
    assert hits.tolist() == [1.0, 1.0, 0.0, 0.0]
    means = score.means()
    assert means["recall@20"] == pytest.approx(0.5)
    assert means["ndcg@20"] == pytest.approx((1.0 + 0.5) / 4)
    assert means["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 21) / 4)


def test_the_moving_mean_forgets() -> None:
    lately = Lately()
    assert lately.mean is None
    lately.add(np.zeros(10))
    lately.add(np.ones(5_000))
    assert lately.mean == pytest.approx(1.0)
    assert len(lately.values()) == 5_000
