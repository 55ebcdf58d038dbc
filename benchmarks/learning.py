"""What learning is worth on a stream, each event ranked before it is learned from.

    python benchmarks/learning.py [--data ml-100k|kuairand] [--text] [--slice N] [--seed S]

Plain arrays, no stream and no index: this measures ``model`` alone. A fine-tune every N events,
full ranking, what the user has seen excluded and not scored. MovieLens-100K is fetched once from
a package; KuaiRand is read from ``GOAT_DATA``, its users' history learned before scoring begins.
Beside ours: the best windowed popularity, EASE solved anew each slice with the same popularity
prior, our vectors with users that do not follow the stream, and with propagation over the graph.
Progress goes to stderr; the last line of stdout is JSON: ``recall``, ``popularity_recall``,
``ease_recall``, ``static_user_recall`` (all at 20), their ratios, and every method's figures.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from learning_data import Histories, Ints, Past, Stream, kuairand, movielens
from numpy.typing import NDArray

from model.config import ModelConfig
from model.data import Interactions, TextFeatures
from model.fold_in import fold_in
from model.popularity import Popularity
from model.propagation import propagate
from model.ranking import mid_ranks, mrr, ndcg_at, recall_at
from model.state import ModelState
from model.trainer import finetune

Floats = NDArray[np.float32]
HALF_LIVES = (1000.0, 3000.0, 10000.0, 30000.0)
"""Of the popularity to beat: the best of them counts."""
WINDOWS = (2500, 5000, 10000, 20000)
"""Events of a plain window, likewise."""
EASE_PENALTIES = (100.0, 300.0)
"""Likewise."""
MIXES = (0.1, 0.3)


def together(data: Interactions) -> Floats:
    """How many users have both of two items, float32[I, I]."""
    key = np.unique(data.owners() * data.items + data.item)
    gram = np.zeros((data.items, data.items), np.float32)
    seen = np.zeros((4096, data.items), np.float32)
    for start in range(0, data.users, len(seen)):
        block = key[slice(*np.searchsorted(key, np.array([start, start + 4096]) * data.items))]
        seen[:] = 0
        seen[block // data.items - start, block % data.items] = 1
        gram += seen.T @ seen
    return gram


def ease(gram: Floats, penalty: float) -> Floats:
    """EASE's item-item weights, float32[I, I] (Steck, WWW 2019)."""
    inverse = np.linalg.inv(gram + penalty * np.eye(len(gram), dtype=np.float32))
    weights: Floats = (-inverse / np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return weights


class Board:
    """Ranks by method, and the processor time each took to learn."""

    def __init__(self) -> None:
        self.ranks: dict[str, list[NDArray[np.float64]]] = {}
        self.cpu: dict[str, float] = {}

    def score(self, name: str, users: Floats, items: Floats, case: "Case") -> None:
        ranks = mid_ranks(users, items, case.target, case.seen)
        self.ranks.setdefault(name, []).append(ranks)

    def figures(self) -> dict[str, dict[str, float]]:
        out: dict[str, dict[str, float]] = {}
        for name, parts in self.ranks.items():
            ranks = np.concatenate(parts)
            out[name] = {
                "recall@20": round(recall_at(ranks, 20), 4),
                "ndcg@20": round(ndcg_at(ranks, 20), 4),
                "mrr": round(mrr(ranks), 4),
            } | ({"cpu_s": round(self.cpu[name], 1)} if name in self.cpu else {})
        return out


@dataclass(frozen=True, slots=True)
class Case:
    """The events of a slice that are scored."""

    event: Ints
    target: Ints
    seen: tuple[Ints, Ints]


@dataclass(frozen=True, slots=True)
class Users:
    """Histories behind the scored events: as of each, and as of the slice's beginning."""

    data: Interactions
    live: Histories
    static: Histories


def score_ours(board: Board, state: ModelState, case: Case, users: Users, prior: Floats) -> None:
    """Live and static users, with and without the prior."""
    live = fold_in(state.items, state.recency, *users.live)
    static = fold_in(state.items, state.recency, *users.static)
    board.score("goat", *joined(live, state.items, prior), case)
    board.score("goat, no popularity", live, state.items, case)
    board.score("goat, static users", *joined(static, state.items, prior), case)
    for mix in MIXES:
        mixed = propagate(users.data, state.items, mix=mix)
        near = fold_in(mixed, state.recency, *users.live)
        board.score(f"goat, propagation {mix}", *joined(near, mixed, prior), case)


def joined(users: Floats, items: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Vectors with the prior as one more coordinate."""
    one = np.ones((len(users), 1), np.float32)
    return np.concatenate([users, one], 1), np.concatenate([items, prior[:, None]], 1)


def score_ease(board: Board, data: Interactions, case: Case, prior: Floats) -> None:
    """EASE solved anew, by several penalties."""
    gram = together(data)
    for penalty in EASE_PENALTIES:
        name, begun = f"ease, penalty {penalty:.0f}", time.process_time()
        weights = ease(gram, penalty)
        board.cpu[name] = board.cpu.get(name, 0.0) + time.process_time() - begun
        apply_ease(board, name, weights, case, prior)


def apply_ease(board: Board, name: str, weights: Floats, case: Case, prior: Floats) -> None:
    """Over all that the user has seen by now, a few hundred users at a time."""
    indptr, seen = case.seen
    for start in range(0, len(case.event), 500):
        stop = min(start + 500, len(case.event))
        mine = seen[indptr[start] : indptr[stop]]
        rows = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
        taste = np.zeros((stop - start, len(weights)), np.float32)
        taste[rows, mine] = 1
        pointers = indptr[start : stop + 1] - indptr[start]
        part = Case(case.event[start:stop], case.target[start:stop], (pointers, mine))
        board.score(name, *joined(taste, weights.T, prior), part)


def score_popularity(board: Board, past_items: Ints, items: int, case: Case) -> None:
    """Popularity alone, by several half-lives and windows."""
    one = np.ones((len(case.event), 1), np.float32)
    ages = np.arange(len(past_items))[::-1]
    for half_life in HALF_LIVES:
        counts = np.bincount(past_items, np.exp2(-ages / half_life), items).astype(np.float32)
        board.score(f"popularity, half-life {half_life:.0f}", one, counts[:, None], case)
    for window in WINDOWS:
        counts = np.bincount(past_items[-window:], minlength=items).astype(np.float32)
        board.score(f"popularity, last {window}", one, counts[:, None], case)


def slices(stream: Stream, size: int) -> Iterator[tuple[int, int]]:
    """Where each scored slice begins and ends."""
    for start in range(stream.history or size, len(stream.user), size):
        yield start, min(start + size, len(stream.user))


def text_of(stream: Stream) -> TextFeatures:
    """Texts through the bundled sentence model."""
    from consumers.embedder import MiniLM

    return TextFeatures(MiniLM().embed(stream.texts), np.ones(stream.items, np.bool_))


def run(
    stream: Stream, size: int, config: ModelConfig, seed: int, features: TextFeatures | None
) -> Board:
    """Score each slice, then learn from it."""
    board, past, state, told = Board(), Past(stream), None, 0
    popularity = Popularity(config.popularity_half_life, config.popularity_floor)
    for number, (start, stop) in enumerate(slices(stream, size)):
        data = stream.upto(start)
        begun = time.process_time()
        tuned = finetune(
            data, features=features, previous=state, config=config, seed=seed + number, threads=1
        )
        state = tuned.state
        board.cpu["goat"] = board.cpu.get("goat", 0.0) + time.process_time() - begun
        popularity.update(stream.item[told:start], stream.items)
        popularity.rebase()
        told = start
        prior = (config.popularity_weight * popularity.scores()).astype(np.float32)
        event = np.arange(start, stop)[past.first[start:stop]]
        case = Case(event, stream.item[event], past.seen(event))
        length = state.recency.length
        users = Users(data, past.live(event, length), past.static(event, length, start))
        score_ours(board, state, case, users, prior)
        score_ease(board, data, case, prior)
        score_popularity(board, stream.item[:start], stream.items, case)
        recall = board.figures()["goat"]["recall@20"]
        print(f"{start}: goat recall@20 {recall} so far", file=sys.stderr)
    return board


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=["ml-100k", "kuairand"], default="ml-100k")
    parser.add_argument("--text", action="store_true", help="learn from titles too (ml-100k)")
    parser.add_argument("--slice", type=int, default=None, help="events between fine-tunes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", default="{}", help="hyper-parameters as JSON")
    given = parser.parse_args()
    config = ModelConfig.model_validate_json(given.config)
    stream = movielens() if given.data == "ml-100k" else kuairand()
    size = given.slice or (5000 if given.data == "ml-100k" else 10000)
    features = text_of(stream) if given.text and stream.texts else None
    board = run(stream, size, config, given.seed, features)
    print(json.dumps({"data": given.data, **result(board), "config": config.model_dump()}))


def result(board: Board) -> dict[str, object]:
    """The figures; of baselines tried with several settings the best one counts."""
    methods = board.figures()

    def best(method: str) -> float:
        return max(v["recall@20"] for k, v in methods.items() if k.startswith(method))

    recall, popularity, strongest = methods["goat"]["recall@20"], best("popularity"), best("ease")
    return {
        "events_scored": sum(map(len, board.ranks["goat"])),
        "recall": recall,
        "popularity_recall": popularity,
        "ease_recall": strongest,
        "static_user_recall": methods["goat, static users"]["recall@20"],
        "ratio_to_popularity": round(recall / popularity, 3),
        "ratio_to_ease": round(recall / strongest, 3),
        "methods": methods,
    }


if __name__ == "__main__":
    main()
