"""Ours beside others on real streams, each event ranked before it is learned from.

    python benchmarks/evaluation.py [--data ml-100k|ml-1m|kuairand] [--methods A,B] [--seeds N]
                                    [--text] [--config JSON] [--json FILE] [--html FILE]

What `goat evaluate` does, on data that it fetches (MovieLens, as a stream with its
catalogue known) or reads from ``GOAT_DATA`` (KuaiRand, whose users' history is learned first).
MovieLens: the first 55 % of the events are learned, then ten equal slices follow, as in the
references' protocol. Progress goes to stderr; the last line of stdout is JSON: ``recall`` and
``strict_recall`` of ours (at 20, mean over the seeds), its ratio to each other method, and of a
full retrain at each slice ``retrain_recall_share`` and ``retrain_cpu_ratio`` (ours over it, after
the base).
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from films import films

from consumers.comparison import Protocol, load, result, write
from consumers.comparison_page import page
from consumers.contestants import NAMES
from consumers.dataset import Dataset
from consumers.inputs import Inputs
from consumers.settings import Settings
from model.config import ModelConfig
from model.data import Features

METHODS = ",".join(NAMES)


def stream(name: str, *, text: bool) -> Dataset:
    """A stream by name, with the bundled sentence model's vectors of its titles."""
    if name == "kuairand":
        folder = Path(os.environ.get("GOAT_DATA", "../shared/data")) / "kuairand_pure_part"
        if not folder.exists():
            raise SystemExit(f"no {folder.name} in GOAT_DATA: set it to the folder of the data")
        return load(Settings(), Inputs(folder, "kuairand"))
    data, texts = films(name)
    if not text:
        return data
    from consumers.embedder import MiniLM

    given = Features(MiniLM().embed(texts), np.ones(data.items, np.bool_))
    return replace(data, features={"text": given})


def summary(methods: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The figures that matter, and their ratios; nothing where ours did not take part."""
    if "goat" not in methods:
        return {}
    ours = methods["goat"]
    out = {"recall": ours["recall@20"], "strict_recall": ours["strict_recall@20"]}
    for name, one in methods.items():
        out[f"ratio_to_{name}"] = ours["recall@20"] / one["recall@20"]
    if "goat-retrained" in methods:
        full = methods["goat-retrained"]
        out["retrain_recall_share"] = ours["recall@20"] / full["recall@20"]
        out["retrain_cpu_ratio"] = sum(ours["cpu_s_by_round"][1:]) / sum(full["cpu_s_by_round"][1:])
    return {name: round(value, 4) for name, value in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=["ml-100k", "ml-1m", "kuairand"], default="ml-100k")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--text", action="store_true", help="learn from titles too")
    parser.add_argument("--config", default="{}", help="hyper-parameters as JSON")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--html", type=Path, default=None)
    given = parser.parse_args()
    data = stream(given.data, text=given.text)
    names = given.methods.split(",")
    if given.data == "kuairand":
        protocol = Protocol(names, None, 10, 10_000, given.seeds)
    else:
        protocol = Protocol(names, 0.55, 10, None, given.seeds)
    config = ModelConfig.model_validate_json(given.config)
    values = result(data, config, given.seed, protocol, lambda line: print(line, file=sys.stderr))
    write(given.data, values, page, json_file=given.json, html_file=given.html)
    methods = cast(dict[str, dict[str, Any]], values["methods"])
    print(json.dumps({"data": given.data, **summary(methods), **values}))


if __name__ == "__main__":
    main()
