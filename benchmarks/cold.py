"""New items, announced with their text before their first event, by how they are placed.

    python benchmarks/cold.py [--data ml-1m|ml-100k] [--delayed SHARE] [--seeds N] [--seed N]

MovieLens in order of time, its catalogue known with titles and genres (as vectors of the bundled
sentence model) from the start; the first 55 % of the events are learned, ten slices follow, each
ranked against the whole catalogue before it is learned from. One model a seed; every placement of
the items that it has not learned is tried on its versions. Films are seldom new by the time that
the base is learned: with ``--delayed`` so large a share of the items, drawn at random, comes in one
of the rounds instead, its earlier events left out of the stream.

A placement gives vectors and expected counts. Its bias for novelty is what the rounds before spoke
for, by the rule of `model.calibration`. Progress goes to stderr; the last line of stdout is JSON:
for each placement recall@20 of events on new items (no event before the round), of the others and
of all, without a bias and with it, intervals over users; recall of new items at a price, which is
the part of their recall that the other items pay for it; and the ratios of ours to the others.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from films import films
from numpy.typing import NDArray
from placements import OURS, PLACEMENTS, Known

from consumers.contest import rounds
from consumers.dataset import Dataset, Past, dataset
from consumers.embedder import MiniLM
from consumers.standings import over_users
from model.asked import soft_recall
from model.calibration import biases, boldest, more_of_novelty
from model.cold import Placed
from model.config import ModelConfig
from model.data import Features
from model.evidence import nothing
from model.fold_in import fold_in
from model.popularity import Popularity
from model.ranking import hits
from model.state import ModelState
from model.trainer import finetune

Floats = NDArray[np.float32]
Table = dict[str, dict[str, float | tuple[float, float]]]
K = 20
CHUNK = 500
WIDE = (0.15, 0.2, 0.3, 0.4)
"""Biases beside the configuration's: some placements need them to show anything at all."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Mid-ranks of the events' items under every placement.

    Attributes
    ----------
    event, round : int64[n]
    new : bool[n]
        Whether the item was not learned.
    plain : name -> float32[n]
        By vectors alone, without popularity or bias.
    served : name -> float32[n, B]
        With popularity, under every bias of `biases`.
    """

    event: NDArray[np.int64]
    round: NDArray[np.int64]
    new: NDArray[np.bool_]
    plain: dict[str, Floats]
    served: dict[str, Floats]


def stream(name: str, delayed: float, seed: int) -> Dataset:
    """MovieLens with its texts, so large a share of its items kept back until a later round."""
    data, texts = films(name)
    text = Features(MiniLM().embed(texts), np.ones(data.items, np.bool_))
    rng = np.random.default_rng([seed, 1])
    late = rng.random(data.items) < delayed
    marks = rounds(data, base_share=0.55, slices=10, every=None)
    start = np.where(late, marks[rng.integers(0, 10, data.items)], 0)
    kept = np.arange(len(data)) >= start[data.item]
    everything = np.full(int(kept.sum()), data.items, np.int64)
    return dataset(
        data.user[kept],
        data.item[kept],
        data.time_us[kept],
        known=everything,
        items=data.items,
        features={"text": text},
    )


def versions(data: Dataset, marks: NDArray[np.int64], seed: int) -> Iterator[ModelState]:
    """The model after each round of learning."""
    state = None
    for number, mark in enumerate(marks[:-1].tolist()):
        state = finetune(
            data.upto(mark),
            features=data.features_upto(mark),
            previous=state,
            config=ModelConfig(),
            seed=seed + 1000 * number,
            threads=1,
        ).state
        print(f"round {number + 1}: learned from {mark} events", file=sys.stderr)
        yield state


def measure(
    data: Dataset,
    marks: NDArray[np.int64],
    states: Iterable[ModelState],
    placements: dict[str, Callable[[Floats, Known], Placed]],
    config: ModelConfig,
) -> Ranks:
    """Rank every event of every round, under every placement."""
    past, counts, parts = Past(data), Popularity(config.popularity_half_life, 0.5), list[Ranks]()
    text, told = data.features["text"].normalised(), 0
    for number, state in enumerate(states):
        start, stop = int(marks[number]), int(marks[number + 1])
        counts.update(data.item[told:start], data.items)
        counts.rebase()
        warm, new = np.flatnonzero(state.learned), np.flatnonzero(~state.learned)
        known = Known(
            text[warm],
            state.items[warm],
            counts.counts()[warm],
            state.parameters["sides.text.weight"],
            config.cold_epsilon,
        )
        put = {name: by(text[new], known) for name, by in placements.items()}
        for at in range(start, stop, CHUNK):
            event = np.arange(at, min(at + CHUNK, stop))
            chunk = Chunk(data, past, event[data.asked[event]], state, counts=counts, config=config)
            parts.append(chunk.ranks(put, number))
            counts.update(data.item[event], data.items)
        told = stop
    return Ranks(
        np.concatenate([p.event for p in parts]),
        np.concatenate([p.round for p in parts]),
        np.concatenate([p.new for p in parts]),
        {name: np.concatenate([p.plain[name] for p in parts]) for name in placements},
        {name: np.concatenate([p.served[name] for p in parts]) for name in placements},
    )


class Chunk:
    """Events asked at once. Warm items are scored once; a placement touches the columns of the new
    ones, and the rows of users who had one of these or are asked for one.
    """

    def __init__(
        self,
        data: Dataset,
        past: Past,
        event: NDArray[np.int64],
        state: ModelState,
        *,
        counts: Popularity,
        config: ModelConfig,
    ) -> None:
        self.event, self.target, self.state = event, data.item[event], state
        self.counts, self.weight = counts, np.float32(config.popularity_weight)
        self.biases = biases(config)[:, 0].tolist()
        self.fresh = ~state.learned
        self.history = past.context(event, state.recency.length)
        indptr, had = past.before(event)
        self.seen = np.zeros((len(event), data.items), np.bool_)
        self.seen[np.repeat(np.arange(len(event)), np.diff(indptr)), had] = True
        self.seen[np.arange(len(event)), self.target] = True
        met = self.fresh[np.maximum(self.history[0], 0)] & (self.history[0] >= 0)
        self.special = np.flatnonzero(self.fresh[self.target] | met.any(axis=1))
        self.warm = np.where(self.fresh[:, None], np.float32(0.0), state.items)
        self.users = fold_in(self.warm, state.recency, *self.history)
        self.cosine = self.users @ self.warm.T

    def ranks(self, put: dict[str, Placed], number: int) -> Ranks:
        """Under all placements."""
        plain, served = dict[str, Floats](), dict[str, Floats]()
        nothing_added = np.zeros(len(self.fresh), np.float32)
        term = self.weight * self.counts.scores()
        bare, full = self._ahead(self.cosine, nothing_added), self._ahead(self.cosine, term)
        for name, placed in put.items():
            items = self.warm.copy()
            items[self.fresh] = placed.vectors
            users = self.users.copy()
            items_had, when = self.history[0][self.special], self.history[1][self.special]
            users[self.special] = fold_in(items, self.state.recency, items_had, when)
            self.counts.forget()
            self.counts.expect(np.flatnonzero(self.fresh), placed.counts)
            term = self.weight * self.counts.scores()
            plain[name] = self._of(users, items, nothing_added, bare, (0.0,))[:, 0]
            served[name] = self._of(users, items, term, full, self.biases)
        self.counts.forget()
        new = self.fresh[self.target]
        return Ranks(self.event, np.full(len(self.event), number), new, plain, served)

    def _ahead(self, cosine: Floats, added: Floats) -> NDArray[np.float64]:
        """Warm items ahead of each warm target, ties for half, float64[n]."""
        scores = cosine + added
        bar = scores[np.arange(len(scores)), self.target][:, None]
        scores[self.seen | self.fresh] = -np.inf
        ahead: NDArray[np.float64] = (scores > bar).sum(1) + (scores == bar).sum(1) / 2
        return ahead

    def _of(
        self,
        users: Floats,
        items: Floats,
        added: Floats,
        ahead: NDArray[np.float64],
        biases: Iterable[float],
    ) -> Floats:
        """Mid-ranks under each bias of the new items, float32[n, B]."""
        target, some, fresh = self.target, self.special, self.fresh
        bar = (users * items[target]).sum(1) + added[target]
        new = np.where(self.seen[:, fresh], -np.inf, users @ items[fresh].T + added[fresh])
        warm = users[some] @ items[~fresh].T + added[~fresh]
        warm[self.seen[some][:, ~fresh]] = -np.inf
        out: list[NDArray[np.float64]] = []
        for bias in biases:
            own = (bar + np.float32(bias) * fresh[target])[:, None]
            rank = 1.0 + ahead
            rank[some] = 1.0 + (warm > own[some]).sum(1) + (warm == own[some]).sum(1) / 2
            shown = new + np.float32(bias)
            out.append(rank + (shown > own).sum(1) + (shown == own).sum(1) / 2)
        return np.stack(out, axis=1).astype(np.float32)


def chosen(ranks: Ranks, name: str, config: ModelConfig) -> Floats:
    """Ranks under the bias that the rounds before spoke for, float32[n]."""
    tried = biases(config)
    served, out = ranks.served[name].astype(np.float64), np.empty(len(ranks.event), np.float32)
    novelty, warm = nothing(tried), nothing(tried)
    for number in np.unique(ranks.round):
        mine = ranks.round == number
        bias = boldest(novelty, warm, config)
        out[mine] = served[mine, tried[:, 0].tolist().index(bias)]
        gains = soft_recall(served[mine])
        novelty, warm = more_of_novelty(
            novelty, warm, gains, ranks.new[mine], config.calibration_memory
        )
    return out


def figures(data: Dataset, ranks: Ranks, config: ModelConfig) -> dict[str, Table]:
    """Recall of each placement, by what was asked for, and at the same price for warm items."""
    unbiased = biases(config)[:, 0].tolist().index(0.0)
    nobody = hits(ranks.served["nowhere"][:, unbiased].astype(np.float64), K)
    out = dict[str, Table]()
    for name in ranks.plain:
        kinds = {
            "no_popularity": ranks.plain[name],
            "no_bias": ranks.served[name][:, unbiased],
            "served": chosen(ranks, name, config),
        }
        out[name] = {kind: _of(data, ranks, found, nobody) for kind, found in kinds.items()}
        out[name]["at_a_price"] = at_a_price(ranks, name, nobody, config)
    return out


def _of(
    data: Dataset, ranks: Ranks, found: Floats, nobody: NDArray[np.float64]
) -> dict[str, float | tuple[float, float]]:
    user, hit, new = data.user[ranks.event], hits(found.astype(np.float64), K), ranks.new
    return {
        "recall_new": float(hit[new].mean()),
        "recall_new_ci95": over_users(hit[new], user[new]),
        "recall_warm": float(hit[~new].mean()),
        "warm_kept": float(hit[~new].mean() / nobody[~new].mean()),
        "recall_all": float(hit.mean()),
        "gain_all": float((hit - nobody).mean()),
        "gain_all_ci95": over_users(hit - nobody, user),
    }


def at_a_price(
    ranks: Ranks, name: str, nobody: NDArray[np.float64], config: ModelConfig
) -> dict[str, float | tuple[float, float]]:
    """Recall of new items where learned ones pay 2, 1 and half a percent, between biases."""
    hit = hits(ranks.served[name].astype(np.float64), K)
    order = np.argsort(biases(config)[:, 0])[::-1]
    kept = hit[~ranks.new].mean(0)[order] / nobody[~ranks.new].mean()
    new = hit[ranks.new].mean(0)[order]
    return {
        f"recall_new_at_{price:g}": float(np.interp(1.0 - price, np.maximum.accumulate(kept), new))
        for price in (0.02, 0.01, 0.005)
    }


def averaged(each: list[Table]) -> Table:
    """Means over the seeds; of intervals, means of their ends."""
    return {
        kind: {
            name: np.mean([one[kind][name] for one in each], axis=0).tolist()
            for name in each[0][kind]
        }
        for kind in each[0]
    }


def _new(of: Table, kind: str) -> float:
    name = "recall_new" if kind == "served" else "recall_new_at_0.02"
    return float(np.mean(of[kind][name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=["ml-100k", "ml-1m"], default="ml-1m")
    parser.add_argument("--delayed", type=float, default=0.0, help="part of the items, in [0, 1)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    own = ModelConfig()
    config = own.model_copy(update={"novelty_biases": (*own.novelty_biases, *WIDE)})
    found = list[dict[str, Table]]()
    new = events = 0
    for seed in range(given.seed, given.seed + given.seeds):
        data = stream(given.data, given.delayed, seed)
        marks = rounds(data, base_share=0.55, slices=10, every=None)
        ranks = measure(data, marks, versions(data, marks, seed), PLACEMENTS, config)
        found.append(figures(data, ranks, config))
        new, events = new + int(ranks.new.sum()), events + len(ranks.new)
    placements = {name: averaged([one[name] for one in found]) for name in PLACEMENTS}
    ratios = {
        f"ratio_{kind}": {
            name: round(float(np.divide(_new(placements[OURS], kind), _new(one, kind))), 3)
            for name, one in placements.items()
            if _new(one, kind) > 0
        }
        for kind in ("served", "at_a_price")
    }
    head = {"data": given.data, "delayed": given.delayed, "seeds": given.seeds, "ours": OURS}
    print(
        json.dumps(head | {"new_events": new, "events": events, "placements": placements} | ratios)
    )


if __name__ == "__main__":
    main()
