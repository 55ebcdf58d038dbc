"""What each part is worth: one switch at a time against the default, on MovieLens-100K.

    python benchmarks/ablation.py [--rows A,B] [--seeds N] [--ids] [--json FILE]

The protocol of `evaluation.py`: the first 55 % of the events are learned, with the films' titles
as text (``--ids``: without), then ten equal slices follow, each ranked before it is learned from.
Every row is the default configuration with one part on that is off, or off that is on. Its
difference is taken event by event with the same seeds, and its 95 % interval covers both users
(whose events hang together) and seeds: the half-widths of the two, squared and added. Progress
goes to stderr; the last line of stdout is JSON, ``{"rows": [...]}``, the default's first.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from evaluation import stream
from numpy.typing import NDArray

from consumers.contest import Outcome, choose, compete, rounds
from consumers.contestants import entries
from consumers.dataset import Dataset, Past
from consumers.report import write_json
from consumers.scores import K
from consumers.standings import over_seeds, over_users
from model.config import ModelConfig
from model.ranking import hits, ndcg_at, recall_at


@dataclass(frozen=True, slots=True)
class Row:
    """A part, and what turns it on or off.

    Attributes
    ----------
    part : what it is
    switched : "on" or "off": how this row differs from the default, in which it is the other
    changes : hyper-parameters
    method : ours, or a variant of it that no hyper-parameter gives
    """

    part: str
    switched: str
    changes: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    method: str = "goat"


DEFAULT = Row("default", "")
ROWS = (
    Row("contrastive alignment (CMCL)", "on", {"contrastive_weight": 0.1}),
    Row("transport of samples (OAT)", "on", {"transport_weight": 0.1}),
    Row(
        "transport of dimensions (OAT)",
        "on",
        {"transport_weight": 0.1, "transport_level": "dimension"},
    ),
    Row("popularity prior", "off", {"popularity_weight": 0.0, "calibration_events": 0}),
    Row("replay", "off", {"replay": 0.0}),
    Row("replay by octaves of age", "on", {"replay_kind": "stratified"}),
    Row("anchored items", "on", {"anchor_weight": 1.0}),
    Row("distillation", "on", {"distillation_weight": 0.5}),
    Row("live user vector", "off", method="goat-frozen-users"),
    Row("item graph", "on", {"item_neighbours": 10}),
    Row("propagation over the graph", "on", {"layers": 1, "layer_weight": 0.3}),
)


def outcomes(data: Dataset, past: Past, row: Row, seeds: Sequence[int]) -> list[Outcome]:
    """Every seed's answers under a row's configuration."""
    config = ModelConfig.model_validate(dict(row.changes))
    marks = rounds(data, base_share=0.55, slices=10, every=None)
    (entry,) = entries([row.method], config)
    chosen = choose(data, past, entry, int(marks[0]))

    def run(seed: int) -> Outcome:
        name = f"{row.part} {row.switched}, seed {seed}"

        def said(line: str) -> None:
            print(f"{name}: {line}", file=sys.stderr)

        return compete(data, past, entry, chosen, marks=marks, seed=seed, said=said)

    return [run(seed) for seed in seeds]


def figures(row: Row, found: Sequence[Outcome]) -> dict[str, object]:
    """Means over the seeds."""
    return {
        "part": row.part,
        "switched": row.switched,
        "changes": dict(row.changes),
        "method": row.method,
        f"recall@{K}": float(np.mean([recall_at(one.ranks, K) for one in found])),
        f"strict_recall@{K}": float(np.mean([recall_at(one.strict, K) for one in found])),
        f"ndcg@{K}": float(np.mean([ndcg_at(one.ranks, K) for one in found])),
        "cpu_s": float(np.mean([sum(one.learn_s) for one in found])),
        "seeds": [recall_at(one.ranks, K) for one in found],
    }


def difference(
    data: Dataset, found: Sequence[Outcome], default: Sequence[Outcome]
) -> dict[str, object]:
    """Mean paired differences of recall, plain and strict, each with its interval."""
    user = data.user[default[0].event]
    out: dict[str, object] = {}
    for name in ("ranks", "strict"):
        each = np.stack(
            [
                hits(getattr(one, name), K) - hits(getattr(base, name), K)
                for one, base in zip(found, default, strict=True)
            ]
        )
        mean, half = interval(each, user)
        key = "difference" if name == "ranks" else "strict_difference"
        out |= {key: mean, f"{key}_ci95": [mean - half, mean + half]}
    return out


def interval(each: NDArray[np.float64], user: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and half-width of the interval of paired differences, float64[seeds, n]."""
    low, high = over_users(each.mean(0), user)
    half = (high - low) / 2
    if len(each) > 1:
        low, high = over_seeds(each.mean(1).tolist())
        half = math.hypot(half, (high - low) / 2)
    return float(each.mean()), half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", default=None, help="parts to switch, by their first words")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ids", action="store_true", help="learn from ids alone")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    wanted = None if given.rows is None else tuple(given.rows.split(","))
    data = stream("ml-100k", text=not given.ids)
    past, seeds = Past(data), range(given.seeds)
    default = outcomes(data, past, DEFAULT, seeds)
    rows = [figures(DEFAULT, default)]
    for row in ROWS:
        if wanted is None or row.part.startswith(wanted):
            found = outcomes(data, past, row, seeds)
            rows.append({**figures(row, found), **difference(data, found, default)})
            print(json.dumps(rows[-1]), file=sys.stderr)
    values = {"data": "ml-100k", "text": not given.ids, "rows": rows}
    if given.json is not None:
        write_json(given.json, values)
    print(json.dumps(values))


if __name__ == "__main__":
    main()
