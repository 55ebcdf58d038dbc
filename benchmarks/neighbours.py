"""Nearest items by text: over the index and exactly, from nothing and from the last table.

    python benchmarks/neighbours.py [--rows N] [--dim T] [--k K]

Rows lie around 400 topics with 40 directions of their own and noise, as texts' vectors do. Beside
each other: a search over the HNSW index, exact search (timed on 1,000 of the rows and scaled), the
recall of the one by the other, a table that goes on from the last one with 1 % new rows, and how
large table and memory are. One thread. Progress goes to stderr; the last line of stdout is JSON.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from model.data import unit_rows
from model.neighbours import nearest, search

SAMPLE = 1_000


def drawn(rows: int, dim: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    topic = rng.standard_normal((400, dim)).astype(np.float32)
    inside = rng.standard_normal((40, dim)).astype(np.float32)
    found = 0.7 * topic[rng.integers(0, 400, rows)]
    found += 0.12 * rng.standard_normal((rows, 40)).astype(np.float32) @ inside
    found += 0.3 * rng.standard_normal((rows, dim)).astype(np.float32)
    return unit_rows(found)


def timed(since: float, what: str) -> float:
    spent = time.process_time() - since
    print(f"{what}: {spent:.1f} s", file=sys.stderr, flush=True)
    return round(spent, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()
    rows, old = drawn(given.rows, given.dim), given.rows - given.rows // 100
    out: dict[str, float] = {"rows": given.rows, "dim": given.dim, "k": given.k}
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    began = time.process_time()
    table = nearest(rows[:old], given.k, exact=0)
    out["index_s"] = timed(began, "over the index")
    out["peak_mb_more"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before_mb
    out["table_mb"] = (table.ids.nbytes + table.cosine.nbytes + table.stamp.nbytes) / 1e6
    began = time.process_time()
    nearest(rows, given.k, table, exact=10**15)
    out["one_percent_new_s"] = timed(began, "1 % new")
    sample = np.random.default_rng(1).choice(old, min(SAMPLE, old), replace=False)
    began = time.process_time()
    exactly, _ = search(rows[sample], rows[:old], given.k, leave_out=sample, exact=10**15)
    out["exact_s_scaled"] = round(timed(began, "exact, a sample") * old / len(sample), 1)
    pairs = zip(exactly.tolist(), table.ids[sample].tolist(), strict=True)
    out["recall"] = round(float(np.mean([len(set(a) & set(b)) / given.k for a, b in pairs])), 4)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
