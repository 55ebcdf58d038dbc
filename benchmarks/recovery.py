"""How long a crash keeps us, and what it costs to be ready for one.

Run: ``python benchmarks/recovery.py``. States of 1M and 10M edges are grown from events in four
partitions, with their catalogue, campaigns with caps, and the default configuration: every
partition remembers its last 2,000,000 event ids, and the last 1,000,000 that something may refer
to. Then, for each size:

- a commit is measured after about 10,000 changed edges: new ones, and impressions anywhere among
  the remembered ones that are clicked or converted; with ``--erased N`` also users are erased who
  had so many edges, which are written over at once wherever they are;
- a new process is started and timed from its start until it has opened the folder by
  `SnapshotStore.load`, which checks every SHA-256, has answered `recent`, and has taken its next
  batch. The folder's pages are dropped from the page cache before that (``posix_fadvise``), and
  once more they are left in it.

Beside these, in the same way: the floor, a process that reads the same files and hashes them; and
a process that unpickles the same state, without any check.

``python benchmarks/recovery.py --edges 1000000`` measures one size. Progress goes to stderr; the
last line of stdout is JSON: ``recovery_s_1m``, ``recovery_s_10m`` (pages dropped),
``snapshot_cost_ratio`` (median wall time of a commit, large over small), and what else was found:
CPU seconds of the new process (``cpu``), which other programs on the machine disturb less.
"""

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from recovery_traffic import PARTITIONS, Traffic, feed, grown, user

from stream.clock import SystemClock
from stream.snapshot import SnapshotStore
from stream.state import State, windows

SMALL, LARGE, ROUNDS, OPENED = 1_000_000, 10_000_000, 15, 3
NEW, ANSWERED, CONVERTED = 8_500, 1_200, 300  # changed edges of a commit


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


# -- what the new processes do


def open_state(folder: Path) -> dict[str, float]:
    """Load, answer, take a batch; seconds of each."""
    start = time.perf_counter()
    state = SnapshotStore(folder, SystemClock()).load()
    assert state is not None
    loaded = time.perf_counter()
    known = state.graph.users.find([user(n) for n in range(1_000)])
    recent = state.graph.recent(known, 20)
    assert (recent.item >= 0).any()
    answered = time.perf_counter()
    traffic = Traffic(1_000_000, np.random.default_rng(5))
    traffic.made = 1 << 40  # ids that nobody knows
    made = traffic.batch(traffic.lanes[0], 1_000, answers=0, conversions=0)
    ready = time.perf_counter()
    before = state.graph.edges.next
    feed(state, made)
    assert state.graph.edges.next == before + 1_000
    done = time.perf_counter()
    return {
        "load_s": loaded - start,
        "recent_s": answered - loaded,
        "batch_s": done - ready,
        "cpu_s": time.process_time(),
    }


def hash_files(folder: Path) -> dict[str, float]:
    """Read and hash every file: what no reader that checks them can go below on one core."""
    start = time.perf_counter()
    size = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            hashlib.sha256(content).hexdigest()
            size += len(content)
    took = time.perf_counter() - start
    return {"load_s": took, "bytes": size, "cpu_s": time.process_time()}


def unpickle(folder: Path) -> dict[str, float]:
    """Read the same state as plain Python and NumPy objects."""
    start = time.perf_counter()
    with (folder / "plain.pickle").open("rb") as file:
        plain = pickle.load(file)
    assert plain
    return {"load_s": time.perf_counter() - start, "cpu_s": time.process_time()}


# -- what the first process does


def plain(state: State) -> dict[str, Any]:
    """What a snapshot holds, as a person with a pickle would keep it."""
    graph = state.graph
    rows = graph.edges.rows(graph.edges.first, graph.edges.next)
    users = list(graph.users.names)
    return {
        "users": {name: n for n, name in enumerate(users)},
        "items": {name: n for n, name in enumerate(graph.items.names)},
        "edges": [rows.user, rows.item, rows.time_us, rows.kind, rows.link],
        "degrees": [graph.degrees.count.data, graph.degrees.period.data],
        "catalog": {n: (r.title, r.categories, r.price) for n, r in graph.catalog.items.items()},
        "windows": {
            name: [
                window.since(partition, number, 0)
                for partition in window.lanes.rows()
                for number in window.sizes(partition)
            ]
            for name, window in windows(state).items()
        },
        "seen": dict(state.orderer.seen.values),
    }


def drop_pages(folder: Path) -> None:
    """Ask the kernel to forget what it holds of these files, all of which are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_a_new_process(how: str, folder: Path, *, cold: bool) -> dict[str, float]:
    """Medians over new processes; ``total_s`` from the start of the process to its last line."""
    found: list[dict[str, float]] = []
    for _ in range(OPENED):
        if cold:
            drop_pages(folder)
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, __file__, how, str(folder)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            line = child.stdout.readline()
            total = time.perf_counter() - start
        found.append({**json.loads(line), "total_s": total})
    return {name: round(float(np.median([f[name] for f in found])), 3) for name in found[0]}


def change(state: State, traffic: Traffic, rng: np.random.Generator, erased: int) -> int:
    """Change about 10,000 edges, some of them long there; how many were."""
    graph, before = state.graph, state.graph.edges.next
    blanked = 0
    while blanked < erased:
        lane = traffic.lanes[int(rng.integers(PARTITIONS))]
        number = int(rng.choice(lane.users))
        count = len(graph.erased)
        feed(state, traffic.erasures(lane, [number]))
        blanked += len(graph.erased) - count
    for lane in traffic.lanes:
        n = (NEW + CONVERTED) // PARTITIONS
        answers, conversions = ANSWERED // PARTITIONS, CONVERTED // PARTITIONS
        feed(state, traffic.batch(lane, n, answers, conversions))
    old = {s for s in graph.joins.amended if s < before}
    return graph.edges.next - before + len(old) + blanked


class Saved:
    """A state that was grown and is saved after each change.

    Parameters
    ----------
    edges : int
    root : Path
        An empty folder.
    erased : int
        Edges of users who are erased before each commit.
    """

    def __init__(self, edges: int, root: Path, erased: int) -> None:
        self.edges, self._root, self._erased = edges, root, erased
        self._rng = np.random.default_rng(11)
        say(f"{edges:,} edges: growing")
        self._state, self._traffic = grown(edges, self._rng)
        graph = self._state.graph
        ids = {
            name: sum(sum(window.sizes(p).values()) for p in window.lanes.rows())
            for name, window in windows(self._state).items()
        }
        say(f"  {len(graph.users):,} users, {len(graph.items):,} items")
        say(f"  {len(graph.ledger.caps):,} impressions towards caps, ids remembered {ids}")
        self._store = SnapshotStore(root / "state", SystemClock())
        start = time.perf_counter()
        first = self._store.commit(self._state)
        say(f"  first commit: {first.bytes_written:,} B in {time.perf_counter() - start:.2f} s")
        self._taken: list[tuple[float, ...]] = []

    def commit(self) -> None:
        """Change, save, and take the time of the saving."""
        changed = change(self._state, self._traffic, self._rng, self._erased)
        cpu, wall = time.process_time(), time.perf_counter()
        info = self._store.commit(self._state)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self._taken.append((changed, 1e3 * wall, 1e3 * cpu, info.bytes_written))

    def cost(self) -> dict[str, float]:
        """Medians over the commits."""
        names = ("changed", "commit_ms", "commit_cpu_ms", "commit_bytes")
        middle = np.median(np.array(self._taken), axis=0).tolist()
        return {name: round(value, 2) for name, value in zip(names, middle, strict=True)}

    def close(self) -> None:
        """Write the pickle, and forget the state."""
        self._store.close()
        (self._root / "plain").mkdir()
        with (self._root / "plain" / "plain.pickle").open("wb") as file:
            pickle.dump(plain(self._state), file, pickle.HIGHEST_PROTOCOL)
        del self._state, self._traffic

    def open(self) -> dict[str, float]:
        """Open what was saved in new processes."""
        found: dict[str, float] = {}
        for name, how, folder, cold in (
            ("recovery", "open", "state", True),
            ("recovery_warm", "open", "state", False),
            ("floor", "hash", "state", True),
            ("pickle", "pickle", "plain", True),
        ):
            took = in_a_new_process(how, self._root / folder, cold=cold)
            say(f"{self.edges:,} edges: {name}: {took}")
            for part in ("total_s", "load_s", "cpu_s"):
                found[f"{name}_{part}"] = took[part]
        return found


def measure(sizes: list[int], root: Path, erased: int) -> list[dict[str, float]]:
    """All sizes; their commits one after the other, so that the disk is as busy for each."""
    saved: list[Saved] = []
    for edges in sizes:
        (root / str(edges)).mkdir()
        saved.append(Saved(edges, root / str(edges), erased))
    for _ in range(ROUNDS):
        for one in saved:
            one.commit()
    for one in saved:
        say(f"{one.edges:,} edges: commits: {one.cost()}")
        one.close()
    return [{**one.cost(), **one.open()} for one in saved]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", nargs="?", choices=["measure", "open", "hash", "pickle"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--edges", type=int, action="append")
    parser.add_argument("--root", type=Path, help="where to keep the states (default: temporary)")
    parser.add_argument("--erased", type=int, default=0, help="edges of erased users, a commit")
    options = parser.parse_args()
    if options.folder is not None:
        act = {"open": open_state, "hash": hash_files, "pickle": unpickle}
        print(json.dumps(act[options.how](options.folder)), flush=True)
        os._exit(0)  # freeing gigabytes takes time that is nobody's
    sizes: list[int] = options.edges or [SMALL, LARGE]
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        found = measure(sizes, Path(folder), options.erased)
    if len(sizes) != 2:
        print(json.dumps(dict(zip(sizes, found, strict=True))))
        return
    small, large = found
    result = {
        "recovery_s_1m": small["recovery_total_s"],
        "recovery_s_10m": large["recovery_total_s"],
        "snapshot_cost_ratio": round(large["commit_ms"] / small["commit_ms"], 3),
        "snapshot_cpu_ratio": round(large["commit_cpu_ms"] / small["commit_cpu_ms"], 3),
        "snapshot_bytes_ratio": round(large["commit_bytes"] / small["commit_bytes"], 3),
        "snapshot_ms_10m": large["commit_ms"],
        "recovery_warm_s_10m": large["recovery_warm_total_s"],
        "recovery_cpu_s_10m": large["recovery_cpu_s"],
        "hash_floor_s_10m": large["floor_total_s"],
        "pickle_s_10m": large["pickle_total_s"],
        "over_floor": round(large["recovery_total_s"] / large["floor_total_s"], 2),
        "over_pickle": round(large["recovery_total_s"] / large["pickle_total_s"], 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
