"""What the fast path is doing, as a file, for boards and servers in other processes.

`goat run` and `goat ingest` write ``status.json`` in the state folder about once a second, whole
but not synced: after a crash an old one is as good as none, for its age says so.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from consumers.figures import figures_of
from consumers.ingestor import Ingestor
from consumers.shaping import Shaper
from consumers.trying import Tried, tried_of
from stream.clock import Clock

FILE = "status.json"
EVERY_US = 1_000_000
KEPT = 300
"""Points of the past that a status carries."""
STALE_US = 15_000_000
"""Age from which a status says nothing of now."""


class Point(BaseModel):
    """Figures of one moment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_us: int
    events_per_s: float
    lag: int | None
    freshness_s: float | None
    recall: float | None
    popularity_recall: float | None


class Writes(BaseModel):
    """What the index was spared, and what readers lose by it; see `consumers.shaping`.

    Attributes
    ----------
    touched, written, saved : points, since the start
    waiting : points that are behind what is known
    threshold : movement of an item's score that is not written at once
    overlap_lost : float or None
        Share of the best 20 that readers miss, by a sample; None before there is one.
    backlog : points that the index has not worked into its graph
    held : whether items are held back for it
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    touched: int
    written: int
    saved: int
    waiting: int
    threshold: float
    overlap_lost: float | None
    backlog: int
    held: bool


class Status(BaseModel):
    """A fast path as of one moment.

    Attributes
    ----------
    at_us : int
        Wall time, microseconds since the epoch.
    doing : what takes its time just now
    events_in, duplicates, late : messages
    kinds, reasons : applied messages by kind, dead letters by reason
    transitions : impressions clicked, clicks converted, conversions without a known cause, ...
    lag : messages behind the end of the source; None when that cannot be known
    freshness_p50_s, freshness_p95_s : float or None
        From a message's arrival to its vectors being searchable, of late.
    freshness_counts, freshness_total_s
        The same since the start: see `consumers.freshness.Freshness`.
    scores : what was scored test-then-train since the start, as `Evaluator.figures` names it
    past : the last `KEPT` points, a second apart
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[3] = 3
    at_us: int
    doing: str
    events_in: int
    duplicates: int
    late: int
    kinds: Mapping[str, int]
    reasons: Mapping[str, int]
    transitions: Mapping[str, int]
    events_per_s: float
    lag: int | None
    freshness_p50_s: float | None
    freshness_p95_s: float | None
    freshness_counts: tuple[int, ...]
    freshness_total_s: float
    writes: Writes
    trial: Tried
    edges: int
    users: int
    items: int
    version: int
    recall: float | None
    popularity_recall: float | None
    scores: Mapping[str, float | None]
    past: tuple[Point, ...]

    def stale(self, now_us: int) -> bool:
        """Whether it says nothing of now."""
        return now_us - self.at_us > STALE_US


class StatusFile:
    """Keeps the file up to date.

    Parameters
    ----------
    state : Path
        The state folder.
    clock : Clock

    Attributes
    ----------
    last : Status or None
        As it was written last.
    """

    def __init__(self, state: Path, clock: Clock) -> None:
        self._path, self._clock = state / FILE, clock
        before = read_status(state)
        self._past: deque[Point] = deque(before.past if before else (), maxlen=KEPT)
        self.last: Status | None = None
        self._written_us = 0

    def note(self, ingestor: Ingestor) -> None:
        """Write how things stand, if the last time is a second ago."""
        now_us = self._clock.now_us()
        if now_us - self._written_us < EVERY_US:
            return
        self._written_us = now_us
        status = self.last = self._status(ingestor, now_us)
        written = self._path.with_suffix(".new")
        written.write_text(status.model_dump_json())
        written.replace(self._path)

    def _status(self, ingestor: Ingestor, now_us: int) -> Status:
        figures, tally = figures_of(ingestor), ingestor.pipeline.tally
        freshness = ingestor.freshness
        fresh = list(freshness.lately)
        p50, p95 = (float(np.quantile(fresh, q)) if fresh else None for q in (0.5, 0.95))
        self._past.append(
            Point(
                at_us=now_us,
                events_per_s=figures.events_per_s,
                lag=figures.lag,
                freshness_s=p50,
                recall=figures.recall,
                popularity_recall=figures.popularity_recall,
            )
        )
        scores = ingestor.pipeline.evaluator.figures()
        return Status(
            at_us=now_us,
            doing=figures.doing,
            events_in=tally.events_in,
            duplicates=tally.duplicates,
            late=tally.late,
            kinds=dict(tally.kinds),
            reasons=dict(tally.reasons),
            transitions=dict(tally.transitions),
            events_per_s=figures.events_per_s,
            lag=figures.lag,
            freshness_p50_s=p50,
            freshness_p95_s=p95,
            freshness_counts=tuple(freshness.counts),
            freshness_total_s=freshness.total_s,
            writes=writes_of(ingestor.pipeline.shaper),
            trial=tried_of(ingestor.pipeline.trial),
            edges=figures.edges,
            users=figures.users,
            items=figures.items,
            version=figures.version,
            recall=figures.recall,
            popularity_recall=figures.popularity_recall,
            scores={k: v for k, v in scores.items() if v is None or isinstance(v, int | float)},
            past=tuple(self._past),
        )


def writes_of(shaper: Shaper) -> Writes:
    """What a shaper has to tell."""
    shaped, tolerance, backlog = shaper.shaped, shaper.tolerance, shaper.backlog
    return Writes(
        touched=shaped.touched,
        written=shaped.written,
        saved=shaped.saved,
        waiting=shaper.waiting,
        threshold=tolerance.threshold,
        overlap_lost=tolerance.loss,
        backlog=backlog.last.points,
        held=backlog.long,
    )


def read_status(state: Path) -> Status | None:
    """The status that a state folder has; None where there is none, or none of this format."""
    try:
        return Status.model_validate_json((state / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
