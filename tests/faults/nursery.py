"""Programs that are killed at a mark: forked here, each in the state that it finds on the disk.

One process of this module imports everything once; it opens nothing and starts no thread, so a fork
of it is a fresh program within milliseconds. It reads one JSON object a line: what to run, and at
which occurrence of which mark it is to die by SIGKILL. It answers with how that ended.
"""

import gc
import json
import os
import signal
import sys
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from consumers import wiring
from consumers.edge_index import EdgeIndex
from consumers.errors import ConsumerError
from consumers.index import Names, PointBatch, Space
from consumers.ingestor import Ingestor
from consumers.lifecycle import Stop
from consumers.publisher import Publisher
from consumers.retraining import ROLLBACKS, Requests
from consumers.settings import Settings
from consumers.versions import Versions
from model.config import ModelConfig
from model.data import unit_rows
from model.errors import ModelError
from model.recency import GAPS, Recency
from model.state import ModelState
from stream.batch import Partition
from stream.clock import SystemClock
from stream.errors import StreamError
from stream.sink import FileDeadLetters
from stream.snapshot import SnapshotStore
from tests.faults import removals  # noqa: F401 - takes away what GOAT_REMOVED says
from tests.faults.topic import Topic, partition_of

NAMES = Names.of("t")
MODEL = ModelConfig(dim=8, half_lives=(1.0, 10.0), context=6)
GROUPS = 2
LATENESS_S = 600.0
NOBODY = 65_534
REFUSED = 3  # with an error of ours: a reason, and what to do
WRITE = "WRITE"  # before each write of the index, and after it


class Clock:
    """Moves on by a twentieth of a second whenever it is looked at: no run depends on its speed."""

    def __init__(self) -> None:
        self._now_us = 1_790_000_000_000_000

    def now_us(self) -> int:
        self._now_us += 50_000
        return self._now_us


@dataclass
class Doom:
    """Kills this process at the n-th report of a mark."""

    mark: str | None
    left: int

    def __call__(self, step: IntEnum | str) -> None:
        name = step if isinstance(step, str) else f"{type(step).__name__}.{step.name}"
        if name == self.mark:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """An index that notes what readers get to see: users as of an offset, and flips."""

    def __init__(self, index: EdgeIndex, notes: Path, doom: Doom) -> None:
        self._index = index
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._doom = doom
        self.positions: dict[Partition, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def upsert(self, collection: str, space: Space, batch: PointBatch, **more: Any) -> None:
        self._doom(WRITE)
        self._index.upsert(collection, space, batch, **more)
        if space is Space.USERS:
            seen = {user: self.positions.get(partition_of(user), 0) for user in batch.ids}
            self._note({"collection": collection, "seen": seen})
        self._doom(WRITE)

    def bury(self, collection: str, space: Space, ids: Sequence[str], **more: Any) -> None:
        self._doom(WRITE)
        self._index.bury(collection, space, ids, **more)
        if space is Space.USERS:
            self._note({"collection": collection, "gone": list(ids)})
        self._doom(WRITE)

    def point(self, targets: dict[str, str | None]) -> None:
        self._index.point(targets)
        self._note({"flip": targets[NAMES.users]})

    def _note(self, what: object) -> None:
        os.write(self._notes, json.dumps(what).encode() + b"\n")


def settings(state: Path) -> Settings:
    # Versions are neither held nor written in place: each comes to every step there is.
    return Settings(
        state=state, lateness_s=LATENESS_S, embedder="given", harm_window=0, skew_budget=0
    )


def ingest(
    state: Path,
    messages: Sequence[list[bytes]],
    doom: Doom,
    limit: int | None,
    *,
    every_s: float = 1.0,
    batch: int = 30,
    back_after: int | None = None,
) -> None:
    """The fast path over a topic, from where the state is to its end."""
    clock = Clock()
    index = Watched(EdgeIndex(state / "index"), state / "notes", doom)
    publisher = Publisher(index, state / "manifest.jsonl", NAMES, clock, on_step=doom)  # type: ignore[arg-type]
    letters = FileDeadLetters(state / "dead")
    pipeline = wiring.open_pipeline(settings(state), MODEL, publisher, letters, clock, live=True)
    pipeline.snapshots.step = doom
    index.positions = pipeline.state.positions
    source = Topic(messages, pipeline.state.positions)
    rollbacks = Requests(state / ROLLBACKS)

    def ask() -> None:
        """Have readers taken back from the second version, once so many messages are taken."""
        far = back_after is not None and pipeline.tally.events_in >= back_after
        if far and pipeline.live.version == 2:
            rollbacks.ask("test-1", "a test")

    Ingestor(
        pipeline,
        source,
        Versions(state / "models"),
        clock,
        Stop(),
        limit=limit,
        batch=batch,
        snapshot_every_s=every_s,
        on_step=ask,
        rollbacks=rollbacks,
    ).run()
    for part in (publisher, letters, pipeline.snapshots):
        part.close()


def learned(name: str) -> np.ndarray:
    """The vector of an item in every version: by its name alone."""
    seed = zlib.crc32(name.encode())
    return unit_rows(np.random.default_rng(seed).normal(size=(1, MODEL.dim)).astype(np.float32))[0]


def recency() -> Recency:
    """Weights that fall by place and by time, in two groups."""
    place = np.array([[0.9**k for k in range(6)], [0.6**k for k in range(6)]], np.float32)
    gap = np.array([[0.95**g for g in range(GAPS)], [0.7**g for g in range(GAPS)]], np.float32)
    return Recency(place, gap)


def finetune(state: Path, doom: Doom) -> None:
    """Write a version as a fine-tune would, of the newest snapshot."""
    opened = SnapshotStore(state / "graph", SystemClock()).open_view()
    assert opened is not None
    names, weights = tuple(opened.items.names), recency()
    items = np.stack([learned(name) for name in names])
    parameters = {"embedding": items, "log_weights": weights.position, "log_gaps": weights.gap}
    model = ModelState(
        items, weights, np.ones(len(names), np.bool_), parameters, opened.view.next_sequence
    )
    meta = {"edges": opened.view.next_sequence}
    Versions(state / "models", step=doom).write(model, names, opened.info.number, meta)


def run(order: dict[str, Any]) -> None:
    """One program, in a process of its own."""
    state, doom = Path(order["state"]), Doom(order["mark"], order["occurrence"])
    if order["nobody"]:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if order["program"] == "finetune":
        finetune(state, doom)
        return
    written: list[list[str]] = json.loads(Path(order["messages"]).read_text())
    messages = [[value.encode("latin-1") for value in part] for part in written]
    ingest(
        state,
        messages,
        doom,
        order["limit"],
        every_s=order["every_s"],
        batch=order["batch"],
        back_after=order["back_after"],
    )


def forked(work: Callable[[], None], log: Path) -> int:
    """Run it in a fork; its exit status, negative for a signal."""
    with log.open("w") as file:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except (ConsumerError, ModelError, StreamError) as error:
                code = REFUSED
                file.write(f"{type(error).__name__}: {error}\n")
            except BaseException:  # noqa: BLE001 - told to the parent, whatever it is
                traceback.print_exc(file=file)
            finally:
                file.flush()
                os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    gc.freeze()  # or every fork copies what its collector looks at
    for line in sys.stdin:
        order = json.loads(line)
        status = forked(lambda order=order: run(order), Path(order["log"]))  # type: ignore[misc]
        sys.stdout.write(json.dumps(status) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
