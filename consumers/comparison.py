"""`goat evaluate`: ours beside other people's, on any source, under one protocol."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from consumers import wiring
from consumers.comparison_page import page
from consumers.contest import choose, compete, rounds
from consumers.contestants import NAMED, OWN, entries
from consumers.dataset import Dataset, HeldBack, Past, read
from consumers.errors import SettingsError
from consumers.inputs import Inputs
from consumers.report import write_json
from consumers.scores import K
from consumers.settings import Settings
from consumers.standings import Slices, Standing, figures
from consumers.tally import Tally
from consumers.texts import Texts
from model.config import ModelConfig
from stream.clock import SystemClock
from stream.codec import Codec, Limits
from stream.graph import Graph
from stream.ordering import Orderer

VERSIONED = ("implicit", "numpy", "scipy", "torch")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How methods are compared.

    Attributes
    ----------
    methods : names; None for all whose libraries are installed
    base_share : part of the events learned first; None: from the first event on
    slices : rounds after the base
    every : events a round, without a base
    seeds : runs of each method that a seed matters to, from the settings' seed on
    strict : what the strict figures hold back: the user's events of the same instant, or day
    """

    methods: Sequence[str] | None
    base_share: float | None = None
    slices: int = 10
    every: int | None = None
    seeds: int = 1
    strict: HeldBack = "instant"


def compare(
    settings: Settings,
    inputs: Inputs,
    protocol: Protocol,
    *,
    json_file: Path | None,
    html_file: Path | None,
    quiet: bool,
) -> int:
    """Read the events once, let every method learn and answer, say how they stand."""
    said = Console(stderr=True, quiet=quiet)
    model, tally = settings.hyper_parameters(), Tally()
    wanted = replace(protocol, methods=chosen_names(protocol.methods, said.print))
    entries(wanted.methods or (), model)  # refused before anything is read
    data = load(settings, inputs, tally)
    values = tally.to_json() | result(data, model, settings.seed, wanted, said.print)
    name = inputs.events.name if inputs.events is not None else "simulated events"
    write(name, values, page, json_file=json_file, html_file=html_file)
    if not quiet:
        Console().print(table(cast(Mapping[str, Mapping[str, Any]], values["methods"])))
    return 0


def write(
    name: str,
    values: Mapping[str, object],
    shown: Callable[[str, Mapping[str, object]], str],
    *,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Write the figures where asked, as JSON and as a page, which ``shown`` makes of a title."""
    if json_file is not None:
        write_json(json_file, values)
    if html_file is not None:
        html_file.parent.mkdir(parents=True, exist_ok=True)
        html_file.write_text(shown(f"{name}: methods compared", values), encoding="utf-8")


def chosen_names(asked: Sequence[str] | None, said: Callable[[str], None]) -> Sequence[str]:
    """The methods asked for; by default all that are installed, and what is missing is said."""
    if asked is not None:
        return asked
    if find_spec("implicit") is not None:
        return NAMED
    said(f"only {', '.join(OWN)}: the others need the extra baselines (goatstream[baselines])")
    return OWN


def load(settings: Settings, inputs: Inputs, tally: Tally | None = None) -> Dataset:
    """All events of the files, or of the simulator; ``tally`` counts their messages."""
    if inputs.events is None and settings.kafka is not None:
        raise SettingsError("evaluate replays: give --events, or unset GOAT_KAFKA to simulate")
    clock, graph = SystemClock(), Graph()
    embedder = wiring.open_embedder(settings)
    dims = wiring.vector_dims(settings, graph.catalog, embedder)
    source = wiring.open_source(settings, inputs, {}, clock)
    return read(
        source,
        Codec(Limits(vector_dims=dims), clock),
        Orderer(wiring.ordering_of(settings)),
        texts=Texts(graph.catalog, embedder),
        graph=graph,
        limit=inputs.limit,
        tally=tally,
    )


def result(
    data: Dataset,
    config: ModelConfig,
    seed: int,
    protocol: Protocol,
    said: Callable[[str], None],
) -> dict[str, object]:
    """Figures of all methods, as JSON.

    Raises
    ------
    SettingsError
        There are too few events for the protocol.
    """
    marks = rounds(
        data, base_share=protocol.base_share, slices=protocol.slices, every=protocol.every
    )
    if len(marks) < 2 or not data.asked[marks[0] :].any() or marks[0] < 2:
        raise SettingsError(
            f"{len(data)} positive events, {data.history} of them history, leave nothing to score"
            f" behind the first {marks[0]}: give more events, or another --base-share or --every"
        )
    past, methods, absent = Past(data), dict[str, object](), dict[str, str]()
    asked = np.flatnonzero(data.asked)
    slices = Slices(data, asked[asked >= marks[0]], int(marks[0]))
    for entry in entries(protocol.methods or OWN, config):
        if entry.most_items is not None and data.items > entry.most_items:
            absent[entry.name] = f"a matrix of {data.items:,} items squared is too large"
            said(f"{entry.name} left out: {absent[entry.name]}")
            continue
        chosen = choose(data, past, entry, int(marks[0]))
        runs = range(seed, seed + (protocol.seeds if entry.seeded else 1))
        outcomes = [
            compete(
                data, past, entry, chosen, marks=marks, seed=run, strict=protocol.strict, said=said
            )
            for run in runs
        ]
        methods[entry.name] = figures(data, Standing(entry.name, chosen, outcomes), slices)
    return {
        "protocol": {
            "name": "every" if protocol.base_share is None else "base",
            "base_share": protocol.base_share,
            "rounds": len(marks) - 1,
            "marks": marks.tolist(),
            "seeds": protocol.seeds,
            "strict": protocol.strict,
        },
        "events": len(data),
        "history": data.history,
        "users": data.users,
        "items": data.items,
        "scored_events": int(data.asked[marks[0] :].sum()),
        "slices": {name: int(mask.sum()) for name, mask in slices.masks.items()},
        "methods": methods,
        "absent": absent,
        "config": config.model_dump(),
        "machine": machine(),
    }


def machine() -> dict[str, object]:
    """What the figures of cost depend on; no names, no paths."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in VERSIONED if find_spec(name) is not None}
        | {"goatstream": version("goatstream")},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Methods as a table, the best first."""
    # Narrow: all of it is to be seen in a terminal of 80 columns.
    title = f"every event ranked before it is learned from, at {K}"
    out = Table(title=title, title_justify="left", box=None, padding=(0, 0, 0, 1), pad_edge=False)
    columns = (f"recall@{K}", f"ndcg@{K}", "mrr", f"strict_recall@{K}", f"coverage@{K}")
    out.add_column("method", no_wrap=True)
    for name in ("recall", "ndcg", "mrr", "strict", "coverage", "95 % interval", "CPU s"):
        out.add_column(name, justify="right", no_wrap=True)
    ranked = sorted(methods.items(), key=lambda pair: -float(pair[1][columns[0]]))
    for name, one in ranked:
        low, high = np.round(one["ci95"], 4)
        shown = [f"{one[column]:.4f}" for column in columns]
        out.add_row(name, *shown, f"{low:.4f}-{high:.4f}", f"{one['cpu_s']:.1f}")
    return out
