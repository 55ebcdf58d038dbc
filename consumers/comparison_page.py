"""A comparison as one HTML file: tables and plots drawn here, nothing fetched, nothing run."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, cast

_COLOURS = (
    "#b3261e", "#1f5fa8", "#2b7a3d", "#8a5a00", "#6a3d9a", "#00727a", "#555555", "#d81b60",
    "#e08a00", "#000000", "#7cb342", "#90a4ae",
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 320, 56, 16, 48
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:68rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;width:100%}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}
svg{max-width:100%;height:auto} .k{display:inline-block;margin-right:1rem}
.k i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}
"""
_COLUMNS = (
    "recall@20", "ndcg@20", "mrr", "strict_recall@20", "coverage@20", "novelty@20",
    "popularity_shift@20", "cpu_s",
)  # fmt: skip
_STATIC = ("recall@20", "ndcg@20", "valid_recall@20", "cpu_s")


def page(title: str, values: Mapping[str, object]) -> str:
    """The whole file; every text in it is escaped."""
    ranked = _ranked(values)
    lines = {name: one["recall@20_by_round"] for name, one in ranked.items()}
    slices = cast(Mapping[str, int], values["slices"])
    protocol = cast(Mapping[str, Any], values["protocol"])
    facts = {k: values[k] for k in ("events", "history", "users", "items", "scored_events")}
    body = (
        "<p>Every event is ranked among all items known before it, less what its user had, before"
        " anything is learned from it. The strict figure knows nothing of the user's other events"
        f" of the same {escape(protocol['strict'])}.</p>"
        f"<h2>Methods</h2>{_table(['method', *_COLUMNS], _rows(ranked))}"
        f"<h2>Recall@20 with its 95 % interval</h2>{bars(ranked)}"
        f"<h2>Recall@20 by round</h2>{_legend(list(lines))}{plot(lines)}"
        f"<h2>Recall@20 by slice</h2>{_table(['method', *slices], _sliced(ranked, slices))}"
        f"<h2>What was read, and on what it ran</h2>{_facts(facts)}"
        f"{_facts(protocol)}"
    )
    return _whole(title, body, values)


def static_page(title: str, values: Mapping[str, object]) -> str:
    """The same of a fixed split."""
    ranked = _ranked(values)
    rows = [
        [
            name,
            *(_figure(one[column]) for column in _STATIC),
            *(" - ".join(f"{v:.4f}" for v in one[c]) for c in ("ci95", "ndcg_ci95")),
            ", ".join(f"{k} {v:g}" for k, v in {**one["setting"], **one["weights"]}.items()),
        ]
        for name, one in ranked.items()
    ]
    names = ["method", *_STATIC, "recall interval", "ndcg interval", "chosen on valid"]
    facts = {k: values[k] for k in ("rows", "users", "items", "asked_users", "with_features")}
    body = (
        "<p>All items are ranked for every user with items in test, less the user's items of train."
        " Settings are chosen on valid; test is asked once.</p>"
        f"<h2>Methods</h2>{_table(names, rows)}"
        f"<h2>Recall@20 with its 95 % interval</h2>{bars(ranked)}"
        f"<h2>What was read, and on what it ran</h2>{_facts(facts)}"
    )
    return _whole(title, body, values)


def _ranked(values: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
    """The methods, the best first."""
    methods = cast(Mapping[str, Mapping[str, Any]], values["methods"])
    return dict(sorted(methods.items(), key=lambda pair: -float(pair[1]["recall@20"])))


def _whole(title: str, body: str, values: Mapping[str, object]) -> str:
    """A page around its body, which ends with what it ran on."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}"
        f"{_facts(cast(Mapping[str, object], values['machine']))}</html>\n"
    )


def plot(
    lines: Mapping[str, Sequence[float | None]],
    label: str = "Recall@20 by round of learning",
    *,
    named: bool = False,
) -> str:
    """Lines over the rounds, from zero up, as SVG; a gap where there is no figure.

    With ``named`` their names stand in the picture, for one that is looked at alone.
    """
    found = [v for line in lines.values() for v in line if v is not None]
    most, rounds = _ceiling(found), max(map(len, lines.values()), default=0)
    step = (_WIDTH - _LEFT - 16) / max(rounds - 1, 1)
    drawn: list[str] = []
    for number, line in enumerate(lines.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        dashed = ' stroke-dasharray="5 4"' if number >= len(_COLOURS) else ""
        for run in _runs(line):
            at = " ".join(f"{_LEFT + i * step:.1f},{_y(v, most):.1f}" for i, v in run)
            drawn.append(
                f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
            )
    marks = "".join(
        f'<text x="{_LEFT + i * step:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{i + 1}</text>'
        for i in range(0, rounds, max(1, rounds // 10))
    )
    if named:
        drawn += [
            f'<text x="{_LEFT + 10}" y="{_TOP + 14 + 16 * n}" fill="{_COLOURS[n % len(_COLOURS)]}">'
            f"{escape(name)}</text>"
            for n, name in enumerate(lines)
        ]
    return _svg(_grid(most) + "".join(drawn) + marks, label)


def bars(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """One bar a method with its interval, as SVG."""
    most = _ceiling([float(one["ci95"][1]) for one in methods.values()])
    step = (_WIDTH - _LEFT - 16) / max(len(methods), 1)
    drawn: list[str] = []
    for number, (name, one) in enumerate(methods.items()):
        left, middle = _LEFT + number * step, _LEFT + (number + 0.5) * step
        top = _y(float(one["recall@20"]), most)
        low, high = (_y(max(0.0, float(v)), most) for v in one["ci95"])
        drawn.append(
            f'<rect x="{left + step * 0.2:.1f}" y="{top:.1f}" width="{step * 0.6:.1f}"'
            f' height="{_HEIGHT - _BOTTOM - top:.1f}" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
            f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{low:.1f}" y2="{high:.1f}"'
            ' stroke="#000" stroke-width="2"/>'
            # Long names of neighbours stand on two lines in turn.
            f'<text x="{middle:.1f}" y="{_HEIGHT - 30 + 16 * (number % 2)}"'
            f' text-anchor="middle">{escape(name)}</text>'
        )
    return _svg(_grid(most) + "".join(drawn), "Recall@20 of each method")


def _runs(line: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for i, value in enumerate(line):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((i, value))
    return [run for run in runs if run]


def _ceiling(values: Sequence[float]) -> float:
    return max([*values, 1e-9]) * 1.1


def _y(value: float, most: float) -> float:
    return _TOP + (1 - value / most) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(most: float) -> str:
    return "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - 16}" y1="{_y(v, most):.1f}" y2="{_y(v, most):.1f}"'
        f' stroke="#ddd"/><text x="{_LEFT - 6}" y="{_y(v, most) + 4:.1f}"'
        f' text-anchor="end">{v:.3f}</text>'
        for v in (most * part / 4 for part in range(5))
    )


def _svg(inner: str, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(label)}" font-size="12">{inner}</svg>'
    )


def _legend(names: Sequence[str]) -> str:
    return "".join(
        f'<span class="k"><i style="background:{_COLOURS[i % len(_COLOURS)]}"></i>'
        f"{escape(name)}</span>"
        for i, name in enumerate(names)
    )


def _rows(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [[name, *(_figure(one[c]) for c in _COLUMNS)] for name, one in methods.items()]


def _sliced(methods: Mapping[str, Mapping[str, Any]], slices: Mapping[str, int]) -> list[list[str]]:
    counts = ["events", *(f"{count:,}" for count in slices.values())]
    own = [[name, *(_figure(one["slices"][s]) for s in slices)] for name, one in methods.items()]
    return [counts, *own]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _facts(facts: Mapping[str, object]) -> str:
    return _table(["", ""], [[name, str(value)] for name, value in facts.items()])
