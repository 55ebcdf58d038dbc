"""What the user-user graph does for new users, and what it costs: MovieLens-100K, offline.

    python benchmarks/user_graph.py [--users N] [--events K]

The protocol of `benchmarks/language.py`: half of the N users are warm, half are new with K events
known, the next ten are ranked. No language model is asked: a user's embedded preferences are
stood in for by the mean of the titles' vectors of the events known, which says how the graph works
where profiles say what the events say, and no more. Beside it the same with new users' profiles
dealt out at random: what is gained so as well is the pull to the average user. Three seeds;
intervals by users. Progress goes to stderr; the last line of stdout is one JSON object.
"""

import argparse
import json
import sys
import time

import numpy as np
from films import Ints, films
from language import SEEDS, Case, Floats, histories, mine, prepare, recalls, summary

from consumers.embedder import MiniLM
from model.config import ModelConfig
from model.data import Features
from model.fold_in import fold_in
from model.state import ModelState
from model.trainer import finetune
from model.user_graph import Profiled, UserGraph

HALVES = (0.5, 1.0, 2.0, 4.0)
NEIGHBOURS = 10


def stand_in(case: Case, titles: Floats, users: Ints) -> Floats:
    """Mean of the titles' vectors of each user's events, float32[n, t]."""
    return np.stack([titles[mine(case, int(user))].mean(0) for user in users])


def coordinates(case: Case, state: ModelState, config: ModelConfig) -> Floats:
    """Items' vectors with popularity as one more coordinate."""
    count = np.bincount(case.data.item[: case.base], minlength=case.data.items)
    prior = config.popularity_weight * np.log(count + config.popularity_floor)
    return np.concatenate([state.items, prior[:, None]], axis=1, dtype=np.float32)


def begun(case: Case, state: ModelState, said: Floats, half: float, spent: list[float]) -> Floats:
    """New users' vectors with their neighbours' part; warm users come first in ``said``."""
    config = ModelConfig()
    users, length = np.concatenate([case.warm, case.new]), state.recency.length
    items, times = histories(case, users, length)
    own = fold_in(state.items, state.recency, items, times)
    # Only warm users are neighbours, as they would be to somebody who comes after them.
    warm = own.copy()
    warm[len(case.warm) :] = 0
    never = np.zeros(len(users), np.int64)
    order = np.arange(len(users))
    graph = UserGraph.of(
        Profiled(order, never, never, said),
        warm,
        neighbours=NEIGHBOURS,
        temperature=config.user_temperature,
        half=half,
    )
    new = order[len(case.warm) :]
    began = time.process_time()
    found = graph.begin(
        own[new],
        user=new,
        events=(items[new] >= 0).sum(1),
        time_us=never[new] + 1,
        sequence=never[new],
    )
    spent.append((time.process_time() - began) / len(new) * 1e6)
    return found


def measure(case: Case, titles: Floats) -> dict[str, object]:
    config = ModelConfig()
    said = stand_in(case, titles, np.concatenate([case.warm, case.new]))
    dealt, warm = said.copy(), len(case.warm)
    dealt[warm:] = np.random.default_rng(0).permutation(said[warm:])
    hits, spent = dict[str, list[Floats]](), list[float]()
    one = np.ones((len(case.new), 1), np.float32)
    features = {"text": Features(titles, np.ones(len(titles), np.bool_))}
    for seed in SEEDS:
        learned = case.data.upto(case.base)
        state = finetune(learned, features=features, config=config, seed=seed).state
        table = coordinates(case, state, config)
        own = fold_in(state.items, state.recency, *histories(case, case.new, state.recency.length))
        found = {"events alone": own}
        for half in HALVES:
            found[f"graph, n0 {half}"] = begun(case, state, said, half, spent)
            found[f"dealt at random, n0 {half}"] = begun(case, state, dealt, half, spent)
        for name, users in found.items():
            rows = np.concatenate([users, one], axis=1)
            hits.setdefault(name, []).append(recalls(case, rows, table, case.new, case.asked))
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    base = np.mean(hits["events alone"], 0)
    return {
        "methods": {name: summary(np.mean(some, 0), base) for name, some in hits.items()},
        "warm": len(case.warm),
        "new": len(case.new),
        "us_a_user": round(float(np.median(spent)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--events", type=int, default=4)
    given = parser.parse_args()
    data, texts = films("ml-100k")
    case = prepare(data, texts, given.users, given.events)
    print(json.dumps({"events": given.events, **measure(case, MiniLM().embed(texts))}))


if __name__ == "__main__":
    main()
