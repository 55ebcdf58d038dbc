"""Serving: candidates from `goat serve` beside the same search asked of Qdrant itself.

A real Qdrant server holds 100,000 items; ``goat serve`` is a process of its own over a snapshot
with users and histories, and asks that server. Both are asked for the 20 best items of a random
user, with the same filter: one category of ten, no expired item, none of a campaign that is
stopped, nothing the user has seen.

- ours: ``POST /v1/candidates`` with the user's id; every answer must be of the main rung;
- raw: one gRPC ``Query`` with the user's vector and the whole filter given, the answer not parsed.

The load is open loop: the times of all requests are drawn in advance (Poisson, one seed for both),
and a latency counts from the time a request was due, not from when it could be sent. So a server
that falls behind is charged for the queue, which a closed loop would hide. It comes from a process
of its own, since no open-loop tool (wrk2, oha, k6, vegeta) is in a Python package: a single thread
that sleeps in ``select`` until the next request is due or an answer is there, over kept-alive
connections of which a free one takes each request. For the raw side the same thread hands
ready-made bytes to gRPC, whose own thread notes when an answer has come. What the load itself costs
is in both figures.

The two take turns, and the median of the turns counts. The last line is one JSON object:
``p50_ms``, ``p99_ms``, ``raw_p50_ms``, ``raw_p99_ms``, ``ratio_p99``, and ``requests_per_s``: ours,
answered, by the wall. ``server_cpu_ms`` is what one request costs the server's process, and
``load`` the machine's load average at the beginning: on one that is busy with other things the
tails say little, and the processor time more.

Run it as ``python benchmarks/serve.py``, with ``--items``, ``--rate`` or ``--seconds`` for less.
"""

import argparse
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as g
from qdrant_client.conversions.conversion import RestToGrpc

from consumers import local
from consumers.index import SEARCH_WIDTH, VECTOR, Conditions, Names
from consumers.live import LiveModel
from consumers.local_process import free_ports
from consumers.local_qdrant import QdrantAddress
from consumers.points import all_points
from consumers.publisher import Publisher
from consumers.qdrant_filter import to_filter
from consumers.qdrant_index import QdrantIndex
from consumers.tally import Tally
from consumers.versions import Versions
from model.config import ModelConfig
from model.recency import plain
from model.state import ModelState
from stream.batch import EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.events import Campaign, Item
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

DIM, K, CATEGORIES, CAMPAIGNS = 64, 20, 10, 50
USERS, EVENTS = 20_000, 12  # events a user
STOPPED = "campaign-7"
CONNECTIONS = 64
WARM_UP_S = 3.0
PATIENCE_S = 120.0
METHOD = "/qdrant.Points/Query"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- what is served


def batch(kind: Kind, users: Sequence[str], items: Sequence[str], models: Any = None) -> EventBatch:
    """Events of now."""
    n = len(users)
    rows = np.arange(n)
    times = np.full(n, SystemClock().now_us() - n) + rows
    ids = [f"{kind.name}-{row}" for row in range(n)]
    return EventBatch(
        Partition("benchmark", 0), rows, rows, np.full(n, kind, np.uint8), times, ids,
        users, items, [""] * n, models or {},
    )  # fmt: skip


def world(n: int, rng: np.random.Generator) -> Graph:
    """Items of one of ten categories and fifty campaigns, users with a dozen clicks each."""
    graph, now = Graph(), "2026-01-01T00:00:00Z"
    names = [f"item-{i}" for i in range(n)]
    told = {
        i: Item.model_validate(
            {
                "event_id": f"ITEM-{i}", "occurred_at": now, "item_id": name, "title": f"Item {i}",
                "categories": [f"category-{i % CATEGORIES}"], "price": float(i % 100),
                "campaign_id": f"campaign-{i % CAMPAIGNS}",
            }
        )
        for i, name in enumerate(names)
    }  # fmt: skip
    graph.apply(batch(Kind.ITEM, [""] * n, names, told), np.arange(n))
    paused = {"event_id": "c", "occurred_at": now, "campaign_id": STOPPED, "paused": True}
    stop = batch(Kind.CAMPAIGN, [""], [""], {0: Campaign.model_validate(paused)})
    graph.apply(stop, np.arange(1))
    picked = (n * rng.random(USERS * EVENTS) ** 2).astype(int).tolist()
    users = [f"user-{i % USERS}" for i in range(USERS * EVENTS)]
    clicks = batch(Kind.CLICK, users, [names[i] for i in picked])
    graph.apply(clicks, np.arange(len(users)))
    return graph


def model(graph: Graph, rng: np.random.Generator) -> ModelState:
    """Random directions: searching them is as hard as searching learned ones."""
    z = rng.normal(size=(len(graph.items), DIM)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    recency = plain(np.full(100, 0.01, np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    return ModelState(z, recency, np.ones(len(z), np.bool_), parameters, trained_upto=0)


def publish(state: Path, address: QdrantAddress, n: int) -> LiveModel:
    """A state folder as the programs leave it, and its vectors in Qdrant."""
    rng, clock = np.random.default_rng(7), SystemClock()
    graph = world(n, rng)
    config = ModelConfig(dim=DIM)
    versions = Versions(state / "models")
    written = versions.write(model(graph, rng), tuple(graph.items.names), 1, {"positions": {}})
    live = LiveModel(graph, config)
    live.use(written)
    extra: Any = {"tally": Tally().to_json(), "version": 1}
    with closing(SnapshotStore(state / "graph", clock)) as snapshots:
        snapshots.commit(State(graph, Orderer(), extra=extra, arrays=live.to_arrays()))
    index = QdrantIndex(address.url, grpc_port=address.grpc_port, timeout_s=60.0)
    names = Names.of("serve-benchmark")
    with closing(Publisher(index, state / "manifest.jsonl", names, clock)) as publisher:
        filling = publisher.begin(1, live.dim, written.origin)
        for space, points in all_points(live):
            filling.add(space, points)
        filling.commit()
    return live


# -- what is asked


def requests(live: LiveModel, count: int, collection: str) -> tuple[list[bytes], list[bytes]]:
    """The same wishes as HTTP requests and as gRPC messages."""
    rng, now_us = np.random.default_rng(11), SystemClock().now_us()
    ours: list[bytes] = []
    raw: list[bytes] = []
    fields = g.PayloadIncludeSelector(fields=["id", "campaign", "price", "title"])
    for _ in range(count):
        user, category = f"user-{rng.integers(USERS)}", f"category-{rng.integers(CATEGORIES)}"
        wish = {"user_id": user, "k": K, "filter": {"categories": [category]}}
        body = json.dumps(wish).encode()
        head = f"POST /v1/candidates HTTP/1.1\r\nHost: b\r\nContent-Length: {len(body)}\r\n"
        ours.append(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        number = live.graph.users.find([user])
        seen = live.graph.recent(number, EVENTS).item[0]
        conditions = Conditions(
            categories=(category,),
            not_campaigns=(STOPPED,),
            not_items=tuple({live.graph.items.name(i) for i in seen.tolist() if i >= 0}),
            now_us=now_us,
        )
        wanted = to_filter(conditions)
        vector = live.user_vectors(number)[0].tolist()
        message = g.QueryPoints(
            collection_name=collection,
            query=g.Query(nearest=g.VectorInput(dense=g.DenseVector(data=vector))),
            using=VECTOR,
            filter=None if wanted is None else RestToGrpc.convert_filter(wanted),
            params=g.SearchParams(hnsw_ef=SEARCH_WIDTH),
            limit=K,
            with_payload=g.WithPayloadSelector(include=fields),
        )
        raw.append(message.SerializeToString())
    return ours, raw


# -- the load, in a process of its own


def http_load(port: int, due: NDArray[np.float64], wishes: Sequence[bytes]) -> list[float]:
    """Latency of each request, seconds, from when it was due."""
    free = deque(socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS))
    for one in free:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    busy: dict[socket.socket, tuple[int, bytearray]] = {}
    waiting: deque[int] = deque()
    took = [0.0] * len(due)
    following, done, start = 0, 0, time.perf_counter()
    while done < len(due):
        now = time.perf_counter() - start
        while following < len(due) and due[following] <= now:
            waiting.append(following)
            following += 1
        while waiting and free:
            number, connection = waiting.popleft(), free.popleft()
            connection.sendall(wishes[number % len(wishes)])
            busy[connection] = number, bytearray()
        rest = due[following] - (time.perf_counter() - start) if following < len(due) else 1.0
        for connection in select.select(list(busy), [], [], max(0.0, rest))[0]:
            number, answer = busy[connection]
            answer += connection.recv(65_536)
            if _whole(answer):
                took[number] = time.perf_counter() - start - due[number]
                if b'"rung":"user"' not in answer[:1_000]:
                    raise SystemExit(f"not of the main rung: {bytes(answer[:600])!r}")
                done += 1
                del busy[connection]
                free.append(connection)
    for one in free:
        one.close()
    return took


def _whole(answer: bytearray) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    lowered = bytes(answer[:head]).lower()
    at = lowered.find(b"content-length:")
    length = int(lowered[at + 15 :].split(b"\r\n", 1)[0])
    return len(answer) >= head + 4 + length


def grpc_load(port: int, due: NDArray[np.float64], wishes: Sequence[bytes]) -> list[float]:
    """The same for a server of gRPC."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        took = [0.0] * len(due)
        pending: list[Any] = []
        start = time.perf_counter()

        def noted(number: int) -> Any:
            def note(_: object) -> None:
                took[number] = time.perf_counter() - start - due[number]

            return note

        for number, moment in enumerate(due.tolist()):
            if (rest := moment - (time.perf_counter() - start)) > 0:
                select.select([], [], [], rest)
            asked = call.future(wishes[number % len(wishes)], timeout=30.0)
            asked.add_done_callback(noted(number))
            pending.append(asked)
        for asked in pending:
            asked.result()
        while not all(took):  # a callback may come a moment after its result
            select.select([], [], [], 0.01)
    return took


def load(spec: Path) -> None:
    """What the load process does: read what to ask, ask, write what it took."""
    told = json.loads(spec.read_text())
    wishes = [bytes.fromhex(one) for one in told["wishes"]]
    due = np.cumsum(np.random.default_rng(told["seed"]).exponential(1 / told["rate"], told["n"]))
    run = {"http": http_load, "grpc": grpc_load}[told["kind"]]
    print(json.dumps({"took": run(told["port"], due, wishes), "last_s": float(due[-1])}))


class Turns:
    """Lets a load process ask, turn by turn.

    Parameters
    ----------
    rate : float
        Requests a second.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        self._folder = folder
        self._rate = rate
        self.ms: dict[str, list[NDArray[np.float64]]] = {"http": [], "grpc": []}
        self.answered_per_s: list[float] = []

    def turn(
        self, kind: str, port: int, wishes: Sequence[bytes], seconds: float, seed: int
    ) -> None:
        """One turn; the first second of each is not counted."""
        n = int(self._rate * seconds)
        told = {"kind": kind, "port": port, "rate": self._rate, "n": n, "seed": seed}
        spec = self._folder / "load.json"
        spec.write_text(json.dumps({**told, "wishes": [one.hex() for one in wishes]}))
        words = [sys.executable, __file__, "--load", str(spec)]
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE)
        found = json.loads(said.stdout)
        took = np.array(found["took"])
        counted = took[int(self._rate) :] * 1e3
        self.ms[kind].append(counted)
        if kind == "http":
            self.answered_per_s.append(n / (found["last_s"] + max(0.0, float(took[-1]))))
        p50, p99 = np.percentile(counted, (50, 99))
        say(f"{kind}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")

    def percentile(self, kind: str, q: float) -> float:
        """Median over the turns, milliseconds."""
        return statistics.median(float(np.percentile(ms, q)) for ms in self.ms[kind])


def serve(stack: ExitStack, state: Path, address: QdrantAddress) -> tuple[int, int]:
    """Start `goat serve`, wait until it is ready, give its port and process id."""
    [port] = free_ports(1)
    settings = {"dim": DIM}
    words = [sys.executable, "-m", "consumers", "serve", "--state", str(state), "--port", str(port)]
    words += ["--qdrant", address.url, "--qdrant-grpc-port", str(address.grpc_port)]
    words += ["--collection", "serve-benchmark", "--deadline-s", "5"]
    environment = os.environ | {"GOAT_MODEL": json.dumps(settings)}
    process = subprocess.Popen(words, env=environment)
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return port, process.pid
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("goat serve did not get ready")


def cpu_s(process: int) -> float:
    """Processor time that a process has taken, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--rate", type=float, default=500.0)
    options.add_argument("--seconds", type=float, default=15.0, help="of a turn")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--load", type=Path, help="for the load process alone")
    told = options.parse_args()
    if told.load is not None:
        load(told.load)
        return
    busy = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(local.qdrant())
        say(f"publishing {told.items} items")
        live = publish(folder / "state", address, told.items)
        port, process = serve(stack, folder / "state", address)
        ours, raw = requests(live, 4_000, "serve-benchmark-items-1")
        turns = Turns(folder, told.rate)
        for kind, where, wishes in (("grpc", address.grpc_port, raw), ("http", port, ours)):
            turns.turn(kind, where, wishes, WARM_UP_S, 0)
            turns.ms[kind].clear()
        turns.answered_per_s.clear()
        before_s = cpu_s(process)
        for number in range(1, told.turns + 1):
            turns.turn("grpc", address.grpc_port, raw, told.seconds, number)
            turns.turn("http", port, ours, told.seconds, number)
        p99, raw_p99 = turns.percentile("http", 99), turns.percentile("grpc", 99)
        figures = {
            "p50_ms": round(turns.percentile("http", 50), 3),
            "p99_ms": round(p99, 3),
            "raw_p50_ms": round(turns.percentile("grpc", 50), 3),
            "raw_p99_ms": round(raw_p99, 3),
            "ratio_p99": round(p99 / raw_p99, 3),
            "requests_per_s": round(statistics.median(turns.answered_per_s), 1),
            "server_cpu_ms": round(
                1e3 * (cpu_s(process) - before_s) / (told.turns * int(told.rate * told.seconds)), 3
            ),
            "items": told.items,
            "rate": told.rate,
            "cores": len(os.sched_getaffinity(0)),
            "load": round(busy, 1),
        }
    print(json.dumps(cast(dict[str, object], figures)))


if __name__ == "__main__":
    main()
