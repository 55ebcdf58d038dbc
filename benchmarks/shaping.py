"""Write shaping: how many writes it saves, and what readers lose by it, against writing everything.

    python benchmarks/shaping.py [--events N] [--rate R] [--every N] [--loss L] [--data simulated]

A stream is taken at ``--rate`` events a second (by a clock that goes with the events), refreshed
five times a second, scored, fine-tuned and published to the embedded index twice: once with every
touched point written at every refresh, once shaped. Every `PROBE` events the lists of users drawn
at random, most of them in no sample, are worked out by brute force over what the index holds and
over what is so now. Streams: the simulator, and KuaiRand's where ``GOAT_DATA`` names a folder with
it.

The last line is one JSON object, by stream: ``touched`` (the writes of writing everything),
``written``, ``saved`` (share), of them ``items`` and ``users`` alone; ``write_s`` of both (time in
the index), ``overlap_lost`` (mean and the worst probe, of both), ``measured_lost`` (what the
program itself said meanwhile, mean) and ``threshold`` (the largest).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from consumers import finetuner, wiring
from consumers.campaigns import Campaigns
from consumers.index import PointBatch, Space, VectorIndex
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.live import LiveModel
from consumers.pipeline import Pipeline
from consumers.publisher import Publisher
from consumers.scheduler import Scheduler
from consumers.settings import Settings
from consumers.shaping import Shaper
from consumers.versions import Versions
from stream.clock import SystemClock
from stream.source import Source

REFRESHES_A_SECOND = 5
PROBE = 2_500
PROBED, K = 200, 20
DATA = "kuairand_pure_part/log_standard_0425_0508.parquet"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class EventClock:
    """Goes on by a second in ``rate`` events, from now."""

    def __init__(self, pipeline: Pipeline, rate: float) -> None:
        self._tally, self._rate = pipeline.tally, rate
        self._began_us = SystemClock().now_us()

    def now_us(self) -> int:
        return self._began_us + int(self._tally.events_in / self._rate * 1e6)


class Everything(Shaper):
    """Writes all that was touched."""

    def write(
        self,
        live: LiveModel,
        campaigns: Campaigns,
        publisher: Publisher,
        *,
        everything: bool = False,
    ) -> int:
        return super().write(live, campaigns, publisher, everything=True)


@dataclass(slots=True)
class Counted:
    """Writes of changes to the live version, by space, and the time they took."""

    index: VectorIndex
    seconds: float = 0.0
    points: dict[Space, int] = field(default_factory=lambda: dict.fromkeys(Space, 0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    def upsert(self, collection: str, space: Space, batch: PointBatch, **more: int) -> None:
        began_s = time.perf_counter()
        self.index.upsert(collection, space, batch, **more)
        if collection in self.index.aliases().values():
            self.seconds += time.perf_counter() - began_s
            self.points[space] += len(batch)


@dataclass(slots=True)
class Probe:
    """Compares lists of what the index holds with lists of what is so."""

    pipeline: Pipeline
    rng: np.random.Generator
    lost: list[float] = field(default_factory=list[float])
    said: list[float] = field(default_factory=list[float])
    threshold: float = 0.0
    _next: int = PROBE

    def __call__(self) -> None:
        pipeline = self.pipeline
        if pipeline.tally.events_in < self._next or pipeline.publisher is None:
            return
        self._next = pipeline.tally.events_in + PROBE
        if pipeline.publisher.live == pipeline.live.version:
            tolerance = pipeline.shaper.tolerance
            self.threshold = max(self.threshold, tolerance.threshold)
            self.said += [] if tolerance.loss is None else [tolerance.loss]
            self.lost.append(self._lost(pipeline.live, pipeline.publisher))

    def _lost(self, live: LiveModel, publisher: Publisher) -> float:
        shown = ~live.graph.catalog.removed(len(live.graph.items))
        items = np.flatnonzero(shown).astype(np.int32)
        users = self.rng.choice(len(live.graph.users), PROBED).astype(np.int32)
        names = [live.graph.items.name(i) for i in items.tolist()]
        index, collection = publisher.index, publisher.index.aliases()[publisher.names.items]
        stored = index.fetch(collection, Space.ITEMS, names)
        exact = live.item_vectors(items)
        there = [p is not None and p.vector is not None for p in stored]
        held = np.full_like(exact, 0.0)
        held[there] = [p.vector for p in stored if p is not None and p.vector is not None]
        queries = live.user_vectors(users)
        true, seen = queries @ exact.T, queries @ held.T
        seen[:, np.logical_not(there)] = -np.inf
        return float(1 - np.mean(_right(true, seen)))


def _right(true: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the ``K`` best by ``seen`` are among those by ``true``; ties count."""
    best = np.argpartition(-seen, K - 1, axis=1)[:, :K]
    worst = np.partition(true, true.shape[1] - K, axis=1)[:, -K][:, None]
    right: NDArray[np.bool_] = np.take_along_axis(true, best, axis=1) >= worst - 1e-5
    return right


def run(given: argparse.Namespace, inputs: Inputs, *, everything: bool) -> dict[str, Any]:
    """One pass over a stream."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            state=Path(folder), shaping_loss=given.loss, score_share=0.02, threads=1
        )
        with wiring.opened(settings, inputs, publish=True) as parts:
            return _passed(given, settings, parts.pipeline, parts.source, everything=everything)


def _passed(
    given: argparse.Namespace,
    settings: Settings,
    pipeline: Pipeline,
    source: Source,
    *,
    everything: bool,
) -> dict[str, Any]:
    publisher = pipeline.publisher
    assert publisher is not None
    counted = Counted(publisher.index)
    publisher.index = cast(VectorIndex, counted)
    pipeline.campaigns = Campaigns(pipeline.state.graph, EventClock(pipeline, given.rate))
    if everything:
        rules = wiring.shaping_of(settings)
        pipeline.shaper = Everything(rules, np.random.default_rng(settings.seed))
    probe = Probe(pipeline, np.random.default_rng(1))
    job = finetuner.arguments(settings, settings.hyper_parameters(), beside=False)
    Ingestor(
        pipeline,
        source,
        Versions(settings.models_dir),
        SystemClock(),
        Stop(),
        scheduler=Scheduler(finetuner.finetune_job, job, every_events=given.every),
        replay=True,
        limit=given.events,
        batch=max(1, int(given.rate / REFRESHES_A_SECOND)),
        on_step=probe,
    ).run()
    shaped = pipeline.shaper.shaped
    return {
        "touched": shaped.touched,
        "written": shaped.written,
        "items": counted.points[Space.ITEMS],
        "users": counted.points[Space.USERS],
        "write_s": round(counted.seconds, 2),
        "overlap_lost": round(float(np.mean(probe.lost)), 5),
        "overlap_lost_worst": round(max(probe.lost), 5),
        "probes": len(probe.lost),
        "measured_lost": round(float(np.mean(probe.said)), 5) if probe.said else None,
        "threshold": round(probe.threshold, 5),
        "versions": pipeline.live.version,
    }


def compared(given: argparse.Namespace, name: str, inputs: Inputs) -> dict[str, Any]:
    """Both passes over one stream."""
    say(f"{name}: everything is written")
    all_of_it = run(given, inputs, everything=True)
    say(f"{name}: {all_of_it}")
    say(f"{name}: shaped")
    shaped = run(given, inputs, everything=False)
    say(f"{name}: {shaped}")
    saved = {
        what: round(1 - shaped[what] / all_of_it[what], 4) for what in ("written", "items", "users")
    }
    return {"everything": all_of_it, "shaped": shaped, "saved": saved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="events a second")
    parser.add_argument("--every", type=int, default=60_000, help="events between fine-tunes")
    parser.add_argument("--loss", type=float, default=0.005, help="budget of overlap@20")
    parser.add_argument("--data", choices=["all", "simulated", "kuairand"], default="all")
    given = parser.parse_args()
    streams = {"simulated": Inputs(limit=given.events)}
    real = Path(os.environ.get("GOAT_DATA", "../shared/data")) / DATA
    if real.is_file():
        streams["kuairand"] = Inputs(real, "kuairand", limit=given.events)
    else:
        say(f"no KuaiRand at {real}: GOAT_DATA names the folder that has it")
    chosen = [name for name in streams if given.data in ("all", name)]
    found = {name: compared(given, name, streams[name]) for name in chosen}
    print(json.dumps({"rate": given.rate, "budget": given.loss, **found}))


if __name__ == "__main__":
    main()
