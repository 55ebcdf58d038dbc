"""What a person sees while the system runs: one table that lives, or a line now and then."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figures:
    """The state of a run at one moment.

    Attributes
    ----------
    events_per_s : messages applied per second of wall time, lately
    lag : messages read behind the end of the source; None when that cannot be known
    version : model version in use, 0 before the first
    recall, popularity_recall : prequential Recall@20 of late, ours and windowed popularity's
    freshness_s : median seconds from a message's arrival to its vectors being searchable
    doing : what takes the time just now
    gaps : by modality, how far its space is from the ids' and what the loss proves of it
    """

    events_in: int
    events_per_s: float
    lag: int | None
    edges: int
    users: int
    items: int
    dead_letters: int
    version: int
    recall: float | None
    popularity_recall: float | None
    freshness_s: float | None
    doing: str
    gaps: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def rows(self) -> list[tuple[str, str]]:
        """Label and value, as a person reads them."""
        gaps = self.gaps.items()
        recall = f"{_share(self.recall)} (popularity {_share(self.popularity_recall)})"
        return [
            ("doing", self.doing),
            ("events", f"{self.events_in:,} ({self.events_per_s:,.0f}/s)"),
            ("lag", "unknown" if self.lag is None else f"{self.lag:,}"),
            ("graph", f"{self.edges:,} edges, {self.users:,} users, {self.items:,} items"),
            ("dead letters", f"{self.dead_letters:,}"),
            ("model version", str(self.version) if self.version else "none yet"),
            ("prequential Recall@20", recall),
            ("gap to ids", ", ".join(f"{k} {t:.2f} <= {b:.2f}" for k, (t, b) in gaps) or "-"),
            ("event to searchable", _seconds(self.freshness_s)),
        ]


class Progress:
    """Shows `Figures`: a live table on a terminal, otherwise a line every few seconds.

    Parameters
    ----------
    figures : callable
        Gives the present figures; called only when something is about to be shown.
    now_s : callable
        Monotonic seconds.
    every_s : float
        Seconds between two lines where there is no terminal.
    """

    def __init__(
        self,
        figures: Callable[[], Figures],
        now_s: Callable[[], float],
        *,
        console: Console | None = None,
        quiet: bool = False,
        every_s: float = 5.0,
    ) -> None:
        self._figures = figures
        self._now_s = now_s
        self._quiet = quiet
        self._console = console or Console(file=sys.stderr)
        self._every_s = every_s if not self._console.is_terminal else 0.25
        self._last_s = float("-inf")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.show(force=True)
        if self._live is not None:
            self._live.stop()

    def show(self, *, force: bool = False) -> None:
        """Show the present figures if it is time to, or if forced."""
        now_s = self._now_s()
        if self._quiet or (now_s - self._last_s < self._every_s and not force):
            return
        self._last_s = now_s
        figures = self._figures()
        if self._live is None:
            self._console.print("  ".join(f"{k} {v}" for k, v in figures.rows()), soft_wrap=True)
        else:
            self._live.update(_table(figures), refresh=True)


def _table(figures: Figures) -> Table:
    table = Table(show_header=False, title="goatstream", title_justify="left")
    for label, value in figures.rows():
        table.add_row(label, value)
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:,.0f} ms"
