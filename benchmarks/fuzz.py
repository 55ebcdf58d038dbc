"""Damage on purpose: messages, files of events and files of state; nothing may crash or lie.

Run: ``python benchmarks/fuzz.py``, or with ``--messages 1000000 --files 100000 --seed 7``, the
defaults, in two processes (``--workers``).

- Messages of every type, most of them damaged (fields, bytes, envelopes, headers), are decoded in
  batches. Each must come out as what a second, slow reading of it says (the standard library's JSON
  and the models of the contract), or as a dead letter with its reason; the same among other
  neighbours, in another order and alone. Every fourth batch goes on through orderer and graph.
- Files of events (JSON lines, CSV, Parquet), a tenth as many as those of state, are read by the
  file source in two cuts.
- Files of state (graph snapshots, a model version, the record of what was published, the drift
  monitor's memory) are damaged one at a time, and the folder is loaded. It must give what it held,
  or an older state that it says it fell back to, or an error of ours. A file that is gone is not
  missed where a first start or a crash may look the same.

A load of more than 20 s, or more memory than ``--memory`` GiB, is a crash. Progress and findings go
to stderr; the last line of stdout is JSON: ``crashes``, ``silent``, ``file_crashes``,
``file_silent``, ``source_crashes`` and ``source_silent`` are what must be 0.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from fuzz_sources import SourceFuzz
from fuzz_states import FileFuzz
from fuzz_stream import MessageFuzz

SHARED = Path("/dev/shm")


def work(messages: int, files: int, seed: int, memory_gib: float) -> Counter[str]:
    """One process's part; what was counted."""
    limit = int(memory_gib * (1 << 30))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    stream = MessageFuzz(random.Random(seed))
    tally = stream.run(messages)
    if messages:
        stream.check_graph()
    found: Counter[str] = Counter()
    for name in ("messages", "decoded", "dead_lettered", "crashes", "silent", "stricter"):
        found[name] = getattr(tally, name)
    found["edges"] = stream.state.graph.edges.next
    within = SHARED if SHARED.is_dir() else None
    with tempfile.TemporaryDirectory(dir=within) as folder:
        sources = SourceFuzz(random.Random(seed + 1), Path(folder)).run(files // 10)
    for name in ("sources", "source_refused", "source_messages", "source_crashes", "source_silent"):
        found[name] = getattr(sources, name)
    with tempfile.TemporaryDirectory(dir=within) as folder:
        states = FileFuzz(random.Random(seed + 2), Path(folder)).run(files)
    for name in ("files", "refused", "accepted_identical", "older", "file_crashes", "file_silent"):
        found[name] = getattr(states, name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", type=float, default=8.0, help="GiB of address space a process")
    options = parser.parse_args()
    start, n = time.perf_counter(), options.workers
    found: Counter[str] = Counter()
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(
                work,
                options.messages // n + (at < options.messages % n),
                options.files // n + (at < options.files % n),
                options.seed + 1_000 * at,
                options.memory,
            )
            for at in range(n)
        ]
        for part in parts:
            found.update(part.result())
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(json.dumps({**found, "seed": options.seed}))


if __name__ == "__main__":
    main()
