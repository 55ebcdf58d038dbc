"""Ours beside others on a fixed split: learned from train, chosen on valid, test asked once.

    python benchmarks/static.py [--data baby|sports] [--methods A,B] [--seeds N] [--seed N]
                                [--config JSON] [--json FILE] [--html FILE]

What `goat evaluate --static` does, on the Amazon splits in ``GOAT_DATA``; where items have words,
the bundled model makes vectors of them. Progress goes to stderr; the last line of stdout is
JSON: ``recall`` and ``ndcg`` of ours (at 20, mean over the seeds), the figures of all methods, and
``ratio_to_NAME`` of the recalls.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from consumers.comparison import write
from consumers.comparison_page import static_page
from consumers.contestants import NAMED
from consumers.static_comparison import embedded, result
from consumers.texts import Embedder
from model.config import ModelConfig
from stream.splits import Split, read_split


def split_of(name: str) -> Split:
    """The split of this name, or a plain word on where it should be."""
    folder = Path(os.environ.get("GOAT_DATA", "../shared/data")) / "amazon_static"
    if not (folder / f"{name}.parquet").exists():
        raise SystemExit(f"no {folder.name} in GOAT_DATA: set it to the folder of the data")
    return read_split(folder / f"{name}.parquet")


def embedder_of(split: Split) -> Embedder | None:
    """The bundled sentence model, where there is something to read."""
    if not any(split.texts):
        return None
    from consumers.embedder import MiniLM

    return MiniLM()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", choices=["baby", "sports"], default="baby")
    parser.add_argument("--methods", default=",".join(NAMED))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", default="{}", help="hyper-parameters as JSON")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--html", type=Path, default=None)
    given = parser.parse_args()
    split = split_of(given.data)
    values = result(
        split,
        embedded(split, embedder_of(split)),
        ModelConfig.model_validate_json(given.config),
        names=given.methods.split(","),
        seeds=range(given.seed, given.seed + given.seeds),
        said=lambda line: print(line, file=sys.stderr, flush=True),
    )
    write(given.data, values, static_page, json_file=given.json, html_file=given.html)
    methods = cast(dict[str, dict[str, Any]], values["methods"])
    summary: dict[str, float] = {}
    if "goat" in methods:
        ours = methods["goat"]
        summary = {"recall": ours["recall@20"], "ndcg": ours["ndcg@20"]}
        for name, one in methods.items():
            summary[f"ratio_to_{name}"] = round(ours["recall@20"] / one["recall@20"], 4)
    print(json.dumps({"data": given.data, **summary, **values}))


if __name__ == "__main__":
    main()
