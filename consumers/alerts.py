"""Alerts of drift: what one says, and where it goes.

An alert is on disk (the monitor's state) before it is sent anywhere, and is sent until each place
has taken it: a crash sends it twice rather than never, under the same name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from consumers.index import to_rfc3339

MOVERS = 5
"""Items or users that an alert names, at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the stream.

    Attributes
    ----------
    edge : int
        Number of an edge of the graph.
    time_us : int
        Its event time, microseconds since the epoch.
    offsets : partition -> offset
        The edge came at one of these or later; empty where no snapshot before it was looked at.
    """

    edge: int
    time_us: int
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a segment has moved; see `consumers.series.Change`."""

    segment: str
    statistic: str
    deviations: float
    distance: float
    before: float
    chance: float


@dataclass(frozen=True, slots=True)
class Mover:
    """An item or user that carries much of it, and its share before and after.

    Of the alignment: the cosine of its text then, 1, and now with its text then.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Alert:
    """What has drifted.

    Attributes
    ----------
    name : str
        The same for the same change, whoever finds it again.
    watch : str
    version : int
        Model version under which it was measured.
    since, found : Place
    moved : the segments, the one that moved most first
    movers : items or users
    recall_before, recall_after : float or None
        Recall@20 of that version on the last events before the change, and since; of those that it
        had not learned from, so that none before is left where the change came before it did.
    """

    name: str
    watch: str
    version: int
    since: Place
    found: Place
    moved: tuple[Moved, ...]
    movers: tuple[Mover, ...]
    recall_before: float | None
    recall_after: float | None

    def to_json(self) -> dict[str, Any]:
        """As it is sent: times as RFC 3339 as well."""
        told = asdict(self)
        for at in ("since", "found"):
            told[at]["time"] = to_rfc3339(told[at]["time_us"])
        return told

    def __str__(self) -> str:
        worst = self.moved[0]
        others = f" and {len(self.moved) - 1} more" if len(self.moved) > 1 else ""
        cost = ""
        if self.recall_after is not None:
            before = "" if self.recall_before is None else f"{self.recall_before:.3f} -> "
            cost = f"; recall@20 {before}{self.recall_after:.3f}"
        carried = ", ".join(mover.name for mover in self.movers)
        return (
            f"{self.name}: {self.watch}, {worst.segment}{others}, moved {worst.deviations:+.1f} sd"
            f" ({worst.statistic} {worst.before:.3f} -> {worst.distance:.3f}) since"
            f" {to_rfc3339(self.since.time_us)}{cost}; most of it: {carried}"
        )
