"""What a user's vector costs in the fast path.

    python benchmarks/encoder.py [--items 100000] [--dim 128] [--context 100]

Folds users with full histories into vectors: in NumPy as the fast path does, beside the same
encoder in torch on one thread, and beside one timescale by position alone over half the events.
Each is timed in turn, nine rounds; a figure is the median of the rounds. The last line of stdout
is JSON: ``us_per_user`` by batch size, ``ratio_to_torch`` and ``ratio_to_one_timescale`` (time of
ours over time of theirs, below 1 is faster) at 1,000 users at a time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from model.config import ModelConfig
from model.data import unit_rows
from model.encoder import Encoder
from model.fold_in import fold_in
from model.recency import GAPS, Recency, buckets, plain

ROUNDS = 9
BATCHES = (1, 10, 100, 1_000)


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--context", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    length = given.context
    z = unit_rows(rng.standard_normal((given.items, given.dim)).astype(np.float32))
    groups = len(ModelConfig().half_lives)
    log_weights = rng.standard_normal((groups, length)).astype(np.float32)
    log_gaps = rng.standard_normal((groups, GAPS)).astype(np.float32)
    ours, one = Recency(np.exp(log_weights), np.exp(log_gaps)), plain(np.exp(log_weights[0]))
    items = torch.from_numpy(z)
    weights = torch.from_numpy(log_weights), torch.from_numpy(log_gaps)
    encoder = Encoder(items, *weights, torch.zeros(()))

    def drawn(users: int) -> tuple[np.ndarray, np.ndarray]:
        back = np.sort(rng.integers(0, 10**13, (users, length)), axis=1)
        return rng.integers(0, given.items, (users, length)).astype(np.int32), -back

    def in_torch(history: np.ndarray, time_us: np.ndarray) -> torch.Tensor:
        gap = torch.from_numpy(buckets(time_us, history >= 0))
        with torch.no_grad():
            return encoder.users(items, torch.from_numpy(history.astype(np.int64)), gap)

    cost: dict[int, list[float]] = {size: [] for size in BATCHES}
    theirs: dict[str, list[float]] = {"torch": [], "one_timescale": []}

    def in_numpy(recency: Recency, history: np.ndarray, time_us: np.ndarray, times: int) -> None:
        for _ in range(times):
            fold_in(z, recency, history, time_us)

    half = slice(None, length // 2)
    for _ in range(ROUNDS):
        for size in BATCHES:
            times = max(1, 1_000 // size)
            spent = seconds(partial(in_numpy, ours, *drawn(size), times))
            cost[size].append(spent / (times * size))
        history, time_us = drawn(BATCHES[-1])
        theirs["torch"].append(seconds(partial(in_torch, history, time_us)) / BATCHES[-1])
        spent = seconds(partial(in_numpy, one, history[:, half], time_us[:, half], 1))
        theirs["one_timescale"].append(spent / BATCHES[-1])
    full = statistics.median(cost[BATCHES[-1]])
    figures: dict[str, object] = {
        "us_per_user": {str(k): round(1e6 * statistics.median(v), 1) for k, v in cost.items()}
    }
    for name, times_taken in theirs.items():
        figures[f"ratio_to_{name}"] = round(full / statistics.median(times_taken), 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
