"""`goat evaluate --static`: ours beside other people's on a fixed split."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from consumers.comparison import chosen_names, machine, write
from consumers.comparison_page import static_page
from consumers.errors import SettingsError
from consumers.inputs import Inputs
from consumers.scores import K
from consumers.settings import Settings
from consumers.standings import over_seeds, over_users
from consumers.static_contenders import contenders
from consumers.static_protocol import Choice, Contender, Figures, answer, choose, learn, questions
from consumers.texts import Embedder
from consumers.wiring import open_embedder
from model.config import ModelConfig
from model.data import Features
from stream.catalog import TEXT
from stream.splits import NAMES, TEST, VALID, Split, read_split


def compare_static(
    settings: Settings,
    inputs: Inputs,
    names: Sequence[str] | None,
    seeds: int,
    *,
    json_file: Path | None,
    html_file: Path | None,
    quiet: bool,
) -> int:
    """Read a split, let every method learn, choose and answer, say how they stand.

    Parameters
    ----------
    names : methods; None for all whose libraries are installed
    seeds : runs of each method that a seed matters to, from the settings' seed on
    """
    if inputs.events is None or not inputs.events.is_file():
        raise SettingsError(
            "--static wants --events FILE: interactions with a column of train, valid and test"
        )
    said, config = Console(stderr=True, quiet=quiet), settings.hyper_parameters()
    wanted = chosen_names(names, said.print)
    contenders(wanted, config)  # refused before anything is read
    split = read_split(inputs.events)
    values = result(
        split,
        embedded(split, open_embedder(settings)),
        config,
        names=wanted,
        seeds=range(settings.seed, settings.seed + seeds),
        said=said.print,
    )
    write(inputs.events.name, values, static_page, json_file=json_file, html_file=html_file)
    if not quiet:
        Console().print(table(cast(Mapping[str, Mapping[str, Any]], values["methods"])))
    return 0


def embedded(split: Split, embedder: Embedder | None) -> dict[str, Features]:
    """Vectors of the items' texts; nothing without texts or without an embedder."""
    present = np.array([bool(text) for text in split.texts], np.bool_)
    if embedder is None or not present.any():
        return {}
    vectors = np.zeros((split.items, embedder.dim), np.float32)
    vectors[present] = embedder.embed([text for text in split.texts if text])
    return {TEXT: Features(vectors, present)}


def result(
    split: Split,
    features: Mapping[str, Features],
    config: ModelConfig,
    *,
    names: Sequence[str],
    seeds: Sequence[int],
    said: Callable[[str], None],
) -> dict[str, object]:
    """Figures of all methods, as JSON.

    Every method is chosen on valid, by the first seed, before test is asked of any.

    Raises
    ------
    SettingsError
        A part of the split has nobody in it.
    """
    rows = np.bincount(split.part, minlength=len(NAMES)).tolist()
    if not all(rows):
        raise SettingsError(f"train, valid and test hold {rows} rows: none may be empty")
    valid = questions(split, VALID, features)
    taking_part, chosen = list[Contender](), list[Choice]()
    for one in contenders(names, config, split.items):
        if one.most_items is None or split.items <= one.most_items:
            taking_part.append(one)
        else:
            said(f"{one.name} is left out: {split.items} items, at most {one.most_items}")
    for one in taking_part:
        chosen.append(choose(one, valid, seeds[0]))
        said(f"{one.name}: {chosen[-1].recall:.4f} on valid with {dict(chosen[-1].setting)}")
    test, methods = questions(split, TEST, features), dict[str, object]()
    for one, choice in zip(taking_part, chosen, strict=True):
        runs = [answer(choice.learned, [choice.weights], test)[0]]
        cpu_s = [choice.learned.cpu_s]
        for seed in seeds[1:] if one.seeded else ():
            again = learn(one, choice.setting, choice.learned.terms, valid, seed)
            runs.append(answer(again, [choice.weights], test)[0])
            cpu_s.append(again.cpu_s)
        methods[one.name] = figures(choice, runs, cpu_s)
        said(f"{one.name}: {float(runs[0].recall.mean()):.4f} on test")
    return {
        "protocol": {"name": "static", "seeds": list(seeds), "selected_by": f"recall@{K}"},
        "rows": dict(zip(NAMES, rows, strict=True)),
        "users": split.users,
        "items": split.items,
        "asked_users": {"valid": len(valid.indptr) - 1, "test": len(test.indptr) - 1},
        "with_features": {name: int(one.present.sum()) for name, one in features.items()},
        "methods": methods,
        "config": config.model_dump(),
        "machine": machine(),
    }


def figures(choice: Choice, runs: Sequence[Figures], cpu_s: Sequence[float]) -> dict[str, object]:
    """Everything that is reported of a method, as JSON; means over the seeds."""
    recalls = [float(one.recall.mean()) for one in runs]
    ndcgs = [float(one.ndcg.mean()) for one in runs]
    several, everyone = len(runs) > 1, np.arange(len(runs[0].recall))
    by_users = [over_users(values, everyone) for values in (runs[0].recall, runs[0].ndcg)]
    by_seeds = [over_seeds(values) if several else None for values in (recalls, ndcgs)]
    return {
        f"recall@{K}": float(np.mean(recalls)),
        f"ndcg@{K}": float(np.mean(ndcgs)),
        "ci95": by_seeds[0] or by_users[0],
        "ndcg_ci95": by_seeds[1] or by_users[1],
        "ci95_over": "seeds" if several else "users",
        "ci95_users": by_users[0],
        "ndcg_ci95_users": by_users[1],
        "seeds": recalls,
        "ndcg_seeds": ndcgs,
        f"valid_recall@{K}": choice.recall,
        f"valid_ndcg@{K}": choice.ndcg,
        "setting": dict(choice.setting),
        "weights": dict(choice.weights),
        "cpu_s": choice.terms_s + float(np.mean(cpu_s)),
        "score_cpu_s": float(np.mean([one.cpu_s for one in runs])),
        "tune_cpu_s": choice.cpu_s,
    }


def table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Methods as a table, the best first."""
    out = Table(title=f"all items of a fixed split ranked, at {K}", title_justify="left")
    columns = (f"recall@{K}", f"ndcg@{K}", f"valid_recall@{K}")
    out.add_column("method")
    for name in (*columns, "95 % interval", "CPU s"):
        out.add_column(name, justify="right")
    for name, one in sorted(methods.items(), key=lambda pair: -float(pair[1][columns[0]])):
        low, high = np.round(one["ci95"], 4)
        shown = [f"{one[column]:.4f}" for column in columns]
        out.add_row(name, *shown, f"{low:.4f}-{high:.4f}", f"{one['cpu_s']:.1f}")
    return out
