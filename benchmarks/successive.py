"""Successive fine-tunes on a live stream: what the transport of each saves by the one before.

    python benchmarks/successive.py [--rounds N] [--events N] [--seed N]

MovieLens-100K in order of time with the bundled sentence model's vectors of its titles: 55 % of
the events are learned first, the rest in ``--rounds`` (200) fine-tunes of equally many events, or
of ``--events`` each. ``product`` is the evidence of the versions themselves: the coupling of the ID
and the text space at 1e-6, warm from the version before and cold. ``settings`` are the same spaces
coupled once more, at both ends of what ε is for and to both tolerances, with CPU time.

``ratio`` is cold over warm iterations in total. ``worse`` counts rounds in which warm ended with a
larger marginal error than cold and than the tolerance; ``worse_within_tolerance`` those in which
both are within it; ``worse_at_equal_effort`` those in which cold is nearer after the iterations
that warm took. The first fine-tune is in no figure.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from evaluation import stream
from numpy.typing import NDArray

from consumers.dataset import Dataset
from model.alignment import TOLERANCE, paired_sample
from model.config import ModelConfig
from model.costs import Cost, cosine
from model.couplings import resume
from model.kept_coupling import WarmStart
from model.state import ModelState
from model.trainer import finetune
from model.transport import SHARP, SMOOTH, by_kernel, solve

SETTINGS = [(s, t) for s in (SMOOTH, SHARP) for t in (1e-3, 1e-6)]


@dataclass
class Tally:
    """Totals over the rounds after the first."""

    tolerance: float
    warm: list[int] = field(default_factory=list[int])
    cold: list[int] = field(default_factory=list[int])
    worse: int = 0
    within: int = 0
    uneven: int = 0
    cpu_s: list[float] = field(default_factory=lambda: [0.0, 0.0])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def add(
        self, iterations: tuple[int, int], errors: tuple[float, float], reason: str | None
    ) -> None:
        """Take in a round: warm, cold; why it was no warm one."""
        self.warm.append(iterations[0])
        self.cold.append(iterations[1])
        worse = errors[0] > errors[1]
        self.worse += worse and errors[0] > self.tolerance
        self.within += worse and errors[0] <= self.tolerance
        if reason is not None:
            self.reasons[reason] += 1

    def summary(self) -> dict[str, Any]:
        """As it is printed."""
        warm, cold = sum(self.warm), sum(self.cold)
        return {
            "tolerance": self.tolerance,
            "rounds": len(self.warm),
            "warm_iterations": warm,
            "cold_iterations": cold,
            "ratio": round(cold / max(warm, 1), 3),
            "worse": self.worse,
            "worse_within_tolerance": self.within,
            "cold_fallbacks": dict(self.reasons),
        }


@dataclass
class Chain:
    """The spaces of each round, coupled from the round before at one setting."""

    sharpness: float
    tally: Tally
    kept: WarmStart | None = None

    def step(self, cost: Cost, ids: NDArray[np.int64]) -> None:
        """Solve warm and cold."""
        first, tolerance = self.kept is None, self.tally.tolerance
        begun = time.process_time()
        met = resume(
            cost,
            self.kept,
            source_ids=ids,
            target_ids=ids,
            sharpness=self.sharpness,
            tolerance=tolerance,
            solver=by_kernel,
        )
        between = time.process_time()
        warm, problem = met.coupling, met.coupling.problem
        cold = solve(problem, tolerance=tolerance, solver=by_kernel)
        ended = time.process_time()
        self.kept = met.kept
        if first:
            return
        even = solve(problem, tolerance=0.0, limit=warm.iterations, solver=by_kernel)
        errors = (warm.marginal_error, cold.marginal_error)
        self.tally.add((warm.iterations, cold.iterations), errors, met.cold_because)
        self.tally.uneven += even.marginal_error < warm.marginal_error
        self.tally.cpu_s[0] += between - begun
        self.tally.cpu_s[1] += ended - between

    def summary(self) -> dict[str, Any]:
        """As it is printed."""
        warm, cold = self.tally.cpu_s
        return {
            "sharpness": self.sharpness,
            **self.tally.summary(),
            "worse_at_equal_effort": self.tally.uneven,
            "warm_cpu_s": round(warm, 3),
            "cold_cpu_s": round(cold, 3),
        }


def spaces(state: ModelState, data: Dataset, sample: int) -> tuple[Cost, NDArray[np.int64]]:
    """The cost that the version's own coupling was solved for, and its items."""
    (head,) = (value for name, value in state.parameters.items() if name.endswith("text.weight"))
    image = data.features["text"].normalised()[: len(state.items)] @ head
    ids = paired_sample(state.learned & image.any(axis=1), sample)
    own, text = (torch.from_numpy(t[ids]).double() for t in (state.parameters["embedding"], image))
    return cosine(own, text), ids


def ends(events: int, rounds: int, each: int | None) -> list[int]:
    """How many events each round has learned from."""
    base = round(0.55 * events)
    last = events if each is None else min(events, base + rounds * each)
    return [round(end) for end in np.linspace(base, last, rounds + 1).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--events", type=int, default=None, help="events a round")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, config = stream("ml-100k", text=True), ModelConfig()
    product = Tally(TOLERANCE)
    chains = [Chain(sharpness, Tally(tolerance)) for sharpness, tolerance in SETTINGS]
    state, begun = None, time.process_time()
    upto = ends(len(data.item), given.rounds, given.events)
    for number, end in enumerate(upto):
        tuned = finetune(
            data.upto(end),
            features=data.features_upto(end),
            previous=state,
            config=config,
            seed=given.seed + 1_000 * number,
            threads=1,
        )
        state = tuned.state
        evidence = tuned.report.alignment["text"]
        if number:
            errors = (evidence.marginal_error, evidence.cold_marginal_error)
            iterations = (evidence.iterations, evidence.cold_iterations)
            product.add(iterations, errors, evidence.cold_because)
        cost, ids = spaces(state, data, config.alignment_sample)
        for chain in chains:
            chain.step(cost, ids)
        if number % 20 == 0:
            print(f"{number} fine-tunes: {product.summary()}", file=sys.stderr, flush=True)
    out = {
        "data": "ml-100k",
        "seed": given.seed,
        "events_a_round": (upto[-1] - upto[0]) / given.rounds,
    }
    out |= {"cpu_s": round(time.process_time() - begun, 1), "product": product.summary()}
    print(json.dumps(out | {"settings": [chain.summary() for chain in chains]}))


if __name__ == "__main__":
    main()
