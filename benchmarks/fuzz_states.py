"""Small folders of state, what each holds, and whether a damaged one is ever taken for another."""

import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from fuzz_files import FileMutator

from consumers.drift import DriftConfig, Monitor
from consumers.drift_state import DriftState, Posted
from consumers.errors import ConsumerError
from consumers.manifest import Manifest
from consumers.manifest_steps import Begun, Collections, Opened
from consumers.versions import Versions
from model.errors import ModelError
from model.recency import Recency
from model.state import ModelState
from stream.batch import EventBatch, Kind, Partition
from stream.clock import ManualClock
from stream.errors import StreamError
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

OURS = (StreamError, ConsumerError, ModelError)
LONGEST_S = 20
SHOWN = 12
P = Partition("events", 0)


@dataclass
class Target:
    """A folder, how to read it, and what it may say.

    Attributes
    ----------
    load : folder -> what it holds, and whether it is said that something was passed over
    states : what it held, the newest first
    """

    name: str
    root: Path
    load: Callable[[Path], tuple[str, bool]]
    states: Sequence[str]
    files: Mapping[str, bytes]


@dataclass
class FileTally:
    """What became of the damaged files."""

    files: int = 0
    accepted_identical: int = 0
    older: int = 0
    refused: int = 0
    file_crashes: int = 0
    file_silent: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    shown: int = 0

    def say(self, what: str, target: Target, name: str, detail: str) -> None:
        """Show the first findings in full."""
        self.shown += 1
        if self.shown <= SHOWN:
            text = f"{what}: {target.name}/{name}: {detail}"
            print(text[:1_800], file=sys.stderr, flush=True)


def told(value: Any) -> str:
    """Everything that is in a value, as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return told({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=repr)
        return "{" + ",".join(f"{k!r}:{told(v)}" for k, v in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(told, cast("Sequence[Any]", value))) + "]"
    return repr(value)


# -- graph snapshots


def load_snapshot(root: Path) -> tuple[str, bool]:
    """The state of the newest snapshot that is whole."""
    store = SnapshotStore(root, ManualClock())
    state = store.load()
    if state is None:
        return "none", False
    graph, seen = state.graph, state.orderer.seen
    found = (
        graph.edges_by_name(), list(graph.users.names), list(graph.items.names), graph.now_us,
        dict(state.positions), dict(state.extra), dict(state.arrays),
        dict(state.orderer.watermarks), graph.edges.first, graph.edges.next,
        [seen.since(P, n, 0) for n in seen.sizes(P)],
        [graph.joins.pending.since(P, n, 0) for n in graph.joins.pending.sizes(P)],
        graph.degrees.count.reserve(8)[:8], graph.degrees.period.reserve(8)[:8],
        dict(graph.catalog.items), dict(graph.catalog.campaigns),
    )  # fmt: skip
    return told(found), bool(store.damaged)


def make_snapshots(root: Path) -> None:
    """Three commits of a small state."""
    state, store = State(Graph(), Orderer()), SnapshotStore(root, ManualClock())
    for turn in range(3):
        n = 6
        kind = np.array([Kind.CLICK, Kind.IMPRESSION] * 3, np.uint8)
        if turn == 2:
            kind[-1] = Kind.ERASE_USER
        ids = [f"e{turn}-{i}" for i in range(n)]
        refers = ["", "", f"e{turn - 1}-1" if turn else "", "", "", ""]
        batch = EventBatch(P, np.arange(n), np.arange(n), kind, np.arange(n) + 10 * turn,
                           ids, list("uvwuvw"), list("abcabc"), refers)  # fmt: skip
        state.graph.apply(batch, state.orderer.admit(batch).keep)
        state.positions[P] = 6 * turn + 6
        state.extra, state.arrays = {"turn": turn}, {"counts": np.arange(turn + 2.0)}
        store.commit(state)
    store.close()


# -- model versions


def load_version(root: Path) -> tuple[str, bool]:
    """The newest model version, all of it."""
    versions = Versions(root)
    found = versions.newest()
    if found is None:
        return "none", False
    return told((found.number, found.snapshot, found.meta, found.load())), False


def make_version(root: Path) -> None:
    """A version of three items."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return rng.random(shape, np.float32)

    state = ModelState(
        items=drawn(3, 4),
        recency=Recency(drawn(1, 2), drawn(1, 12)),
        learned=np.ones(3, np.bool_),
        parameters={"embedding": drawn(3, 4), "log_weights": drawn(1, 2), "log_gaps": drawn(1, 12)},
        trained_upto=12,
        steps=5,
    )
    Versions(root).write(state, ("a", "b", "ü"), 7, {"positions": {"events[0]": 3}})


# -- what was published


def load_manifest(root: Path) -> tuple[str, bool]:
    """Every line of the manifest."""
    path = root / "manifest.jsonl"
    content = path.read_bytes() if path.exists() else b""
    manifest = Manifest(path, ManualClock())
    manifest.close()
    # lines cut off at a line's end are not noticed here, but by the publisher: see the module
    cut = not content or content.endswith(b"\n")
    return told([line.model_dump() for line in manifest.lines]), cut or manifest.torn is not None


def make_manifest(root: Path) -> list[str]:
    """Six lines; what the file said after each."""
    manifest = Manifest(root / "manifest.jsonl", ManualClock())
    states = ["[]"]
    for number in range(1, 7):
        pair = Collections(version=number, items=f"i{number}", users=f"u{number}")
        manifest.append(Opened(generation=number) if number % 2 else Begun(collections=pair))
        states.append(told([line.model_dump() for line in manifest.lines]))
    manifest.close()
    return states[::-1]


# -- what the drift monitor remembers


def load_drift(root: Path) -> tuple[str, bool]:
    """The monitor and what it posted."""
    state = DriftState(root)
    monitor = state.load(DriftConfig())
    found = (monitor.version, monitor.marks, monitor.texts, monitor.last_us, monitor.rounds)
    return told((*found, [one.model_dump() for one in state.posted])), False


def make_drift(root: Path) -> list[str]:
    """A monitor with marks, texts and alerts; what it held, and a new one."""
    new, _ = load_drift(root)
    state, monitor = DriftState(root), Monitor(DriftConfig())
    monitor.version, monitor.marks = 3, [(10, {"events[0]": 4}), (20, {"events[0]": 9})]
    monitor.texts = {1: np.arange(4, dtype=np.float32), 5: np.ones(4, np.float32)}
    monitor.rounds.history["text"] = [3, 4, 5]
    alert = {"name": "a-1", "watch": "shown", "version": 3}
    state.posted = [Posted(alert=alert, waiting=["topic"], posted_us=5)]
    state.save(monitor)
    return [load_drift(root)[0], new]


def targets(root: Path) -> list[Target]:
    """One folder of each kind."""
    found: list[Target] = []
    for name, make, load in (
        ("snapshots", make_snapshots, load_snapshot),
        ("versions", make_version, load_version),
        ("manifest", make_manifest, load_manifest),
        ("drift", make_drift, load_drift),
    ):
        folder = root / name
        folder.mkdir(parents=True)
        states = make(folder)
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "writer.lock"
        }
        target = Target(name, folder, load, states or [load(folder)[0]], files)
        if name == "snapshots":
            target.states = _older_snapshots(target)
        found.append(target)
    return found


def _older_snapshots(target: Target) -> list[str]:
    """What each snapshot holds, found by taking the newer ones away."""
    states: list[str] = []
    names = sorted((n for n in target.files if n.endswith(".json")), reverse=True)
    for name in names:
        states.append(target.load(target.root)[0])
        (target.root / name).unlink()
    for name in names:
        (target.root / name).write_bytes(target.files[name])
    return states


class FileFuzz:
    """Damages a file, loads, compares, mends.

    Parameters
    ----------
    rng : random.Random
    root : Path
        An empty folder, in memory if possible.
    """

    def __init__(self, rng: random.Random, root: Path) -> None:
        self.tally = FileTally()
        self._rng = rng
        self._mutator = FileMutator(rng)
        self._targets = targets(root)

    def run(self, n: int) -> FileTally:
        """Damage ``n`` files."""
        before = signal.signal(signal.SIGALRM, _too_long)
        try:
            for turn in range(n):
                self.one(self._targets[turn % len(self._targets)])
                if (turn + 1) % 5_000 == 0:
                    print(f"{turn + 1:,} files: {self.tally}", file=sys.stderr, flush=True)
        finally:
            signal.signal(signal.SIGALRM, before)
        return self.tally

    def one(self, target: Target) -> None:
        """Damage one file of a folder, load the folder, and put the file back."""
        name = self._rng.choice(list(target.files))
        content = self._mutator.mutated(name, target.files)
        path = target.root / name
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        self.tally.files += 1
        signal.alarm(LONGEST_S)
        try:
            found, said = target.load(target.root)
            self._judge(target, name, content, found, said=said)
        except OURS as error:
            self.tally.refused += 1
            self.tally.errors[type(error).__name__] += 1
        except BaseException as error:  # running out of time or memory is a finding too
            if isinstance(error, KeyboardInterrupt):
                raise
            self.tally.file_crashes += 1
            shown = traceback.format_exc()[-700:]
            self.tally.say("crash", target, name, f"{content!r:.500} {shown}")
        finally:
            signal.alarm(0)
            path.write_bytes(target.files[name])

    def _judge(
        self, target: Target, name: str, content: bytes | None, found: str, *, said: bool
    ) -> None:
        if found == target.states[0]:
            self.tally.accepted_identical += 1
        elif content is None and found in (*target.states, "none"):
            self.tally.older += 1  # a file that is not there is not missed
        elif found in target.states and said:
            self.tally.older += 1
        else:
            self.tally.file_silent += 1
            self.tally.say("silent", target, name, f"{content!r:.900}")


def _too_long(*_: object) -> None:
    raise TimeoutError(f"a load took more than {LONGEST_S} s")
