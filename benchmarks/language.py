"""What inferred preferences cost, and what they do for new users: MovieLens-100K, offline.

    python benchmarks/language.py [--users N] [--events K] [--model FILE.gguf] [--folder DIR]
                                  [--no-model]

Half of the N users are warm (active before 55 % of the events), half are new after it: of those
the first K events are known, the next ten are ranked against the whole catalogue, what was seen
excluded. A small language model in this process describes every user from the titles of the events
known. A new user's vector is that of its K events, mixed with the mean vector of the ten warm users
whose embedded profiles are nearest. Beside it the same with neighbours by the mean of the titles'
own vectors (no language model), and with the profiles dealt out at random. Three seeds; intervals
by users. Profiles are kept in DIR and gone on from. Progress goes to stderr; the last line of
stdout is one JSON object.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from films import Ints, films
from numpy.typing import NDArray

from consumers.dataset import Dataset
from consumers.embedder import MiniLM
from consumers.enricher import Enricher, EnricherConfig, pasts
from consumers.language import LlamaChat, smollm2
from consumers.profiles import Profiles
from model.config import ModelConfig
from model.data import Interactions, interactions, unit_rows
from model.fold_in import fold_in
from model.ranking import mid_ranks
from model.trainer import finetune
from stream.batch import Kind
from stream.catalog import ItemRecord
from stream.clock import SystemClock
from stream.view import Csr

Floats = NDArray[np.float32]
BASE = 0.55
NEXT = 10
NEIGHBOURS = 10
MIXES = (0.1, 0.2, 0.3, 0.5)
SEEDS = (7, 8, 9)


@dataclass(frozen=True, slots=True)
class Case:
    """Who is described and what is asked.

    Attributes
    ----------
    known : events that models may see, by user
    warm, new : int64[W], int64[N]
    asked : int64[N, NEXT]
        Items of each new user's next events.
    """

    data: Dataset
    texts: list[str]
    base: int
    known: Interactions
    warm: Ints
    new: Ints
    asked: Ints


def prepare(stream: Dataset, texts: list[str], users: int, events: int) -> Case:
    """Deal users into warm and new, deterministically: the latest warm, the earliest new ones."""
    base = int(len(stream.user) * BASE)
    every = stream.upto(len(stream.user))
    first = np.full(every.users, len(stream.user))
    np.minimum.at(first, stream.user, np.arange(len(stream.user)))
    count = np.diff(every.indptr)
    early = np.bincount(stream.user[:base], minlength=every.users)
    last = np.zeros(every.users, np.int64)
    np.maximum.at(last, stream.user[:base], np.arange(base))
    enough = np.flatnonzero(early >= 10)
    warm = enough[np.argsort(-last[enough])][: users // 2]
    late = np.flatnonzero((first >= base) & (count >= events + NEXT))
    new = late[np.argsort(first[late])][: users - len(warm)]
    place = np.arange(len(every)) - every.indptr[:-1].repeat(count)
    owner = every.owners()
    seen = (every.sequence < base) | (np.isin(owner, new) & (place < events))
    known = interactions(
        owner[seen],
        every.item[seen],
        items=stream.items,
        users=every.users,
        time_us=every.time_us[seen],
    )
    at = every.indptr[new][:, None] + events + np.arange(NEXT)
    return Case(stream, texts, base, known, warm, new, every.item[at].astype(np.int64))


def infer(case: Case, enricher: Enricher) -> None:
    """Describe the users, warm and new in turn; what is in the file already is not asked again."""
    known = case.known
    kind = np.full(len(known), Kind.CLICK, np.uint8)
    csr = Csr(known.indptr, known.item, known.time_us, kind, known.weight, known.sequence)
    catalog = {n: ItemRecord(title=text) for n, text in enumerate(case.texts)}
    names = [str(user) for user in range(known.users)]
    past = {
        p.user: p
        for p in pasts(
            csr, names, catalog, history=enricher.config.history, next_sequence=len(known)
        )
    }
    half = max(len(case.warm), len(case.new))
    turn = [int(group[i]) for i in range(half) for group in (case.warm, case.new) if i < len(group)]
    began = time.monotonic()
    for done, _ in enumerate(enricher.enrich(past[str(user)] for user in turn), 1):
        if done % 10 == 0:
            spent = time.monotonic() - began
            print(f"{done} described, {spent / done:.1f} s each", file=sys.stderr, flush=True)


def neighbours(new: Floats, warm: Floats, vectors: Floats) -> Floats:
    """Mean vector of the warm users whose texts are nearest to each new user's, at length 1."""
    cosine = unit_rows(new) @ unit_rows(warm).T
    near = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
    return unit_rows(vectors[near].mean(1))


def measure(case: Case, profiles: Profiles) -> dict[str, dict[str, float]]:
    """Recall@20 of new users' next events by method, over seeds; intervals by users."""
    newest = profiles.newest()
    warm = np.array([u for u in case.warm if str(u) in newest], np.int64)
    at = np.flatnonzero([str(u) in newest for u in case.new])
    new, asked = case.new[at], case.asked[at]
    embedder = MiniLM()
    said = [[newest[str(u)].text for u in group] for group in (warm, new)]
    told = {"profile": [embedder.embed(texts) for texts in said]}
    shuffled = np.random.default_rng(0).permutation(len(new))
    told["profile dealt at random"] = [told["profile"][0], told["profile"][1][shuffled]]
    titles = embedder.embed(case.texts)
    told["titles"] = [np.stack([titles[mine(case, u)].mean(0) for u in g]) for g in (warm, new)]
    hits: dict[str, list[Floats]] = {}
    for seed in SEEDS:
        for name, users, items in methods(case, warm, new, told, seed):
            hits.setdefault(name, []).append(recalls(case, users, items, new, asked))
    base = np.mean(hits["events alone"], 0)
    return {name: summary(np.mean(some, 0), base) for name, some in hits.items()}


def methods(
    case: Case, warm: Ints, new: Ints, told: dict[str, list[Floats]], seed: int
) -> Iterator[tuple[str, Floats, Floats]]:
    """Names, users' vectors and items' vectors, popularity as one more coordinate of both."""
    config = ModelConfig()
    state = finetune(case.data.upto(case.base), config=config, seed=seed).state
    recency = state.recency
    warm_users, own = (
        fold_in(state.items, recency, *histories(case, group, recency.length))
        for group in (warm, new)
    )
    count = np.bincount(case.data.item[: case.base], minlength=case.data.items)
    prior = config.popularity_weight * np.log(count + config.popularity_floor)
    one = np.ones((len(new), 1), np.float32)
    items = np.concatenate([state.items, prior[:, None]], 1, dtype=np.float32)
    yield "popularity", np.concatenate([0 * own, one], 1), items
    yield "events alone", np.concatenate([own, one], 1), items
    for name, (of_warm, of_new) in told.items():
        near = neighbours(of_new, of_warm, warm_users)
        for mix in MIXES:
            mixed = unit_rows(((1 - mix) * own + mix * near).astype(np.float32))
            yield f"{name}, mix {mix}", np.concatenate([mixed, one], 1), items


def mine(case: Case, user: int) -> NDArray[np.int32]:
    """Items known of a user, oldest first."""
    return case.known.item[case.known.indptr[user] : case.known.indptr[user + 1]]


def histories(case: Case, users: Ints, length: int) -> tuple[NDArray[np.int32], Ints]:
    """The last items known and when, [n, L] each, the most recent first, -1 past the end."""
    item, times = (
        np.full((len(users), length), -1, np.int32),
        np.zeros((len(users), length), np.int64),
    )
    for row, user in enumerate(users):
        some = mine(case, user)[::-1][:length]
        start, stop = case.known.indptr[user], case.known.indptr[user + 1]
        item[row, : len(some)] = some
        times[row, : len(some)] = case.known.time_us[start:stop][::-1][:length]
    return item, times


def recalls(case: Case, users: Floats, items: Floats, new: Ints, asked: Ints) -> Floats:
    """Share of each new user's next items within the first 20: float32[N]."""
    seen = [mine(case, u) for u in new for _ in range(NEXT)]
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in seen])])
    rows = np.repeat(users, NEXT, axis=0)
    ranks = mid_ranks(rows, items, asked.ravel(), (indptr, np.concatenate(seen)))
    shares: Floats = (ranks <= 20).reshape(-1, NEXT).mean(1).astype(np.float32)
    return shares


def summary(hit: Floats, base: Floats) -> dict[str, float]:
    """Mean, and the half-widths of 95 % intervals: of itself, and of its gain over events alone."""
    root = np.sqrt(len(hit))
    gain = hit - base
    return {
        "recall@20": round(float(hit.mean()), 4),
        "ci95": round(float(1.96 * hit.std(ddof=1) / root), 4),
        "gain": round(float(gain.mean()), 4),
        "gain_ci95": round(float(1.96 * gain.std(ddof=1) / root), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--events", type=int, default=4)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=Path("state/language"))
    parser.add_argument("--no-model", action="store_true", help="only profiles made before")
    given = parser.parse_args()
    case = prepare(*films("ml-100k"), given.users, given.events)
    profiles = Profiles(given.folder / f"profiles-{given.events}.jsonl")
    cost = {} if given.no_model else described(case, profiles, given.model or smollm2())
    methods_ = measure(case, profiles)
    for name, figures in methods_.items():
        print(f"{name:32s} {figures}", file=sys.stderr)
    newest = profiles.newest()
    counts = {
        "users": len(newest),
        "attempts": len(profiles),
        "warm": sum(str(u) in newest for u in case.warm),
        "new": sum(str(u) in newest for u in case.new),
    }
    print(json.dumps({"methods": methods_, **counts, "this_run": cost}))


def described(case: Case, profiles: Profiles, model: Path) -> dict[str, object]:
    """Describe the users that are due; what it cost."""
    config = EnricherConfig(history=8, per_hour=10**6)
    enricher = Enricher(LlamaChat(model), profiles, config, SystemClock())
    began, cpu = time.monotonic(), time.process_time()
    infer(case, enricher)
    usage = enricher.chat.usage
    return {
        "made": enricher.made,
        "repaired": enricher.repaired,
        "skipped": dict(enricher.skipped),
        "requests": usage.requests,
        "prompt_tokens": usage.prompt_tokens,
        "answer_tokens": usage.answer_tokens,
        "money": usage.cost,
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
    }


if __name__ == "__main__":
    main()
