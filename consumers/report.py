"""How a run ends: candidates of three users with titles, the figures, and where the state lies."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.index import Candidate, Conditions
from consumers.ingestor import Ingestor
from consumers.status import writes_of
from stream.graph import Graph

USERS_SHOWN = 3
CANDIDATES_SHOWN = 5
HISTORY_SHOWN = 3
HAD = 50  # of a user's last items, which are not shown again
LOOKED_BACK = 1_000  # edges searched for users who acted last


@dataclass(frozen=True, slots=True)
class Shown:
    """One user as a person sees them: what they did last, what we would show them."""

    user: str
    history: Sequence[str]
    candidates: Sequence[Candidate]


def some_users(ingestor: Ingestor) -> list[Shown]:
    """Candidates of the users who acted last, straight from the index."""
    pipeline = ingestor.pipeline
    graph, publisher = pipeline.state.graph, pipeline.publisher
    if publisher is None or not pipeline.live.ready:
        return []
    shown: list[Shown] = []
    for number in latest_users(graph, USERS_SHOWN):
        recent = graph.recent(np.array([number], np.int32), HAD).item[0]
        had = [i for i in recent.tolist() if i >= 0]
        seen = tuple(dict.fromkeys(graph.items.name(i) for i in had))
        conditions = Conditions(not_items=seen, now_us=graph.now_us)
        name = graph.users.name(number)
        history = [title(graph.catalog.items, graph.items.name(i), i) for i in had[:HISTORY_SHOWN]]
        found = publisher.candidates(name, CANDIDATES_SHOWN, conditions)
        shown.append(Shown(name, history, found))
    return shown


def latest_users(graph: Graph, n: int) -> list[int]:
    """Numbers of the ``n`` users who acted last, the last one first; erased ones left out."""
    edges = graph.edges
    recent = np.arange(max(edges.first, edges.next - LOOKED_BACK), edges.next)[::-1]
    users = dict.fromkeys(edges.user(recent).tolist())
    return [user for user in users if graph.users.name(user)][:n]


def title(catalog: Mapping[int, object], name: str, number: int) -> str:
    """An item's title, or its id where it has none."""
    return str(getattr(catalog.get(number), "title", None) or name)


def figures(ingestor: Ingestor, wall_s: float) -> dict[str, object]:
    """Everything that was counted and measured, as JSON."""
    pipeline = ingestor.pipeline
    return {
        **pipeline.tally.to_json(),
        "balanced": pipeline.tally.balanced,
        "edges": len(pipeline.state.graph.edges),
        "users": len(pipeline.state.graph.users),
        "items": len(pipeline.state.graph.items),
        "version": pipeline.live.version,
        "alignment": pipeline.live.alignment,
        **pipeline.evaluator.figures(),
        "event_to_searchable_p50_s": ingestor.freshness.median_s,
        "writes": writes_of(pipeline.shaper).model_dump(),
        "wall_s": wall_s,
        "finetune_errors": len(ingestor.errors),
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write the figures where asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")


def show(
    console: Console, shown: Sequence[Shown], values: Mapping[str, object], state: Path
) -> None:
    """Print the end of a run."""
    for user in shown:
        console.print(_user_table(user))
    for line in _lines(values):
        console.print(line)
    console.print(f"state: {escape(str(state))} (run again to go on from it)", soft_wrap=True)


def _user_table(shown: Shown) -> Table:
    after = "; ".join(shown.history) or "nothing yet"
    table = Table(title=f"user {escape(shown.user)}, after {escape(after)}", title_justify="left")
    table.add_column("score", justify="right")
    table.add_column("candidate")
    for candidate in shown.candidates:
        name = str(candidate.payload.get("title") or candidate.id)
        table.add_row(f"{candidate.score:.3f}", escape(name))
    return table


def _lines(values: Mapping[str, object]) -> list[str]:
    counts = " + ".join(
        f"{values[name]:,} {label}"
        for name, label in (
            ("applied", "applied"),
            ("duplicates", "duplicates"),
            ("dead_letters", "dead letters"),
            ("late", "late"),
        )
    )
    lines = [f"{values['events_in']:,} messages in = {counts}"]
    if values["reasons"]:
        lines.append(f"dead letters by reason: {values['reasons']}")
    if values["transitions"]:
        turned = cast(Mapping[str, int], values["transitions"])
        said = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(turned.items()))
        lines.append(f"joined: {said}")
    if values["scored_events"]:
        static = values["static_user_recall@20"]  # not compared when live
        compared = "" if static is None else f" with users as of the last version {static:.4f};"
        lines.append(
            f"prequential Recall@20 over {values['scored_events']:,} events: "
            f"{values['recall@20']:.4f};{compared} windowed popularity "
            f"{values['popularity_recall@20']:.4f}"
        )
    writes = cast(Mapping[str, Any], values["writes"])
    if writes["touched"]:
        lost = writes["overlap_lost"]
        said = "" if lost is None else f"; {lost:.2%} of the best 20 lost by it at the last look"
        saved = f"{writes['saved']:,} saved ({writes['saved'] / writes['touched']:.0%})"
        lines.append(f"{writes['written']:,} points written, {saved}{said}")
    for name, one in cast(Mapping[str, Mapping[str, Any]], values["alignment"]).items():
        gap = one["gap"]
        lines.append(
            f"ids and {name}: W1 {gap['wasserstein']:.3f} ({gap['wasserstein_low']:.3f} to "
            f"{gap['wasserstein_high']:.3f}), gap {gap['observed']:.3f} <= {gap['bound']:.3f}"
        )
    return lines
