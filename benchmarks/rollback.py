"""Rollback under load: how long it takes, and whether any answer mixes two versions.

    python benchmarks/rollback.py [--queries N] [--clients N] [--every S]

Two versions of a small catalogue are published to a real Qdrant by the publisher. Their vectors are
made so that a score says which version's user met which version's items. While processes ask for
candidates as ad systems do (user by id through `lookup_from`, both aliases), the publisher returns
to the version before, again and again. (`goat serve` names the collections of one manifest line,
and cannot mix.)

The last line is one JSON object: ``queries``, ``mixed``, ``failed``, ``rollbacks``,
``rollback_p50_ms``, ``rollback_p99_ms`` (two aliases flipped, read back, recorded and synced), the
candidates of one user ``before``, ``between`` and ``after`` two of them, and ``seen``: answers by
version of user and items.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from consumers import local
from consumers.index import VECTOR, Names, PointBatch, Space, point_id
from consumers.local_qdrant import QdrantAddress
from consumers.publisher import Publisher
from consumers.qdrant_index import QdrantIndex
from consumers.scheduler import die_with_parent
from stream.clock import SystemClock

NAMES = Names.of("rollback")
USERS, ITEMS, DIM, K = 100, 500, 16, 5
STRENGTH = {1: (1.0, 2.0), 2: (3.0, 5.0)}  # of users and items by version: products tell who met


def points(ids: list[str], strength: float) -> PointBatch:
    vectors = np.zeros((len(ids), DIM), np.float32)
    vectors[:, 0] = strength
    return PointBatch(ids, vectors, [{}] * len(ids))


def publish(publisher: Publisher, version: int) -> None:
    users, items = STRENGTH[version]
    filling = publisher.begin(version, DIM)
    filling.add(Space.USERS, points([f"u{n}" for n in range(USERS)], users))
    filling.add(Space.ITEMS, points([f"v{version}-i{n}" for n in range(ITEMS)], items))
    filling.commit()


def top(publisher: Publisher) -> list[str]:
    """Candidates of one user, by name."""
    return sorted(one.id for one in publisher.candidates("u1", 3))


def met(score: float) -> tuple[int, int]:
    """Which version's user met which version's items."""
    return min(
        ((u, i) for u in STRENGTH for i in STRENGTH),
        key=lambda pair: abs(STRENGTH[pair[0]][0] * STRENGTH[pair[1]][1] - score),
    )


@dataclass(frozen=True)
class Share:
    """What one client asks: so many queries, so many in a request."""

    seed: int
    count: int
    batch: int


def ask(address: QdrantAddress, share: Share, stop: Event, out: Any) -> None:
    """Ask until told to stop, or for so many; puts counts of who met whom."""
    die_with_parent()
    client = QdrantClient(address.url, grpc_port=address.grpc_port, prefer_grpc=True)
    rng, batch = np.random.default_rng(share.seed), share.batch
    seen, failed, asked = Counter[str](), 0, 0
    lookup = models.LookupLocation(collection=NAMES.users, vector=VECTOR)
    while asked < share.count and not stop.is_set():
        requests = [
            models.QueryRequest(
                query=point_id(Space.USERS, f"u{n}"), using=VECTOR, lookup_from=lookup, limit=K
            )
            for n in rng.integers(USERS, size=batch).tolist()
        ]
        try:
            answers = client.query_batch_points(NAMES.items, requests)
        except Exception as error:  # noqa: BLE001 - whatever a caller would get is counted
            failed += batch
            sys.stderr.write(f"{error}\n"[:300])
            continue
        asked += batch
        for answer in answers:
            pairs = {met(point.score) for point in answer.points}
            seen["|".join(f"{u}{i}" for u, i in sorted(pairs)) or "empty"] += 1
    out.put((seen, failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="queries a request")
    parser.add_argument("--every", type=float, default=0.05, help="seconds between rollbacks")
    given = parser.parse_args()
    with local.qdrant() as address, tempfile.TemporaryDirectory() as folder:
        index = QdrantIndex(address.url, grpc_port=address.grpc_port, api_key=address.api_key)
        publisher = Publisher(index, Path(folder) / "manifest.jsonl", NAMES, SystemClock())
        publish(publisher, 1)
        publish(publisher, 2)
        lists = [top(publisher)]
        for _ in range(2):
            publisher.rollback()
            lists.append(top(publisher))
        context = multiprocessing.get_context("spawn")
        stop, out = context.Event(), context.Queue()
        count = given.queries // given.clients
        clients = [
            context.Process(target=ask, args=(address, Share(n, count, given.batch), stop, out))
            for n in range(given.clients)
        ]
        for client in clients:
            client.start()
        took: list[float] = []
        pause = threading.Event()
        while any(client.is_alive() for client in clients) and out.qsize() < len(clients):
            began_s = time.perf_counter()
            publisher.rollback()
            took.append(time.perf_counter() - began_s)
            pause.wait(given.every)
        seen, failed = Counter[str](), 0
        for _ in clients:
            own, lost = out.get()
            seen, failed = seen + own, failed + lost
        for client in clients:
            client.join()
        publisher.close()
    whole = seen["11"] + seen["22"]
    print(
        json.dumps(
            {
                "queries": seen.total(),
                "mixed": seen.total() - whole,
                "failed": failed,
                "rollbacks": len(took),
                "rollback_p50_ms": round(1e3 * float(np.percentile(took, 50)), 2),
                "rollback_p99_ms": round(1e3 * float(np.percentile(took, 99)), 2),
                **dict(zip(("before", "between", "after"), lists, strict=True)),
                "seen": dict(seen),
            }
        )
    )


if __name__ == "__main__":
    main()
