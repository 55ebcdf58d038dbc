"""A whole server over a small world, asked in this process."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from consumers.board import Board
from consumers.board_routes import BoardRoutes
from consumers.gate import Audit, Gate
from consumers.intake import Intake
from consumers.keys import Buckets, Keyring, parse_keys
from consumers.profiles import LatestProfiles
from consumers.readiness import Readiness
from consumers.routes import Routes
from consumers.served import ServedLog
from consumers.server import application
from consumers.serving_metrics import ServingMetrics
from consumers.settings import Settings
from stream.errors import SinkError
from tests.consumers.serving_parts import Parts

SECRETS = {name: f"{name}-0123456789abcdef" for name in ("reader", "producer", "operator")}
KEYS = "; ".join(
    f"{name} {role} {SECRETS[name]}"
    for name, role in (("reader", "read"), ("producer", "events"), ("operator", "operate"))
)


@dataclass
class Kept:
    """A sink that keeps what it is sent, or fails."""

    fails: bool = False
    sent: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    closed: bool = False

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        if self.fails:
            raise SinkError("nobody takes it")
        self.sent += zip(values, keys or [None] * len(values), strict=True)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@dataclass
class Site:
    """A server and what it is made of."""

    parts: Parts
    client: TestClient
    gate: Gate
    served: ServedLog
    lists: Kept
    events: Kept
    audit: Path
    board: Board


def make_site(
    parts: Parts,
    folder: Path,
    *,
    keys: str = "",
    rate: float = 1e6,
    deadline_s: float = 5.0,
    kafka: bool = True,
    hosts: frozenset[str] | None = None,
) -> Site:
    """A server over these parts."""
    clock, metrics = parts.clock, ServingMetrics(parts.clock)
    lists, events = Kept(), Kept()
    served = ServedLog(lists)
    breaker = parts.ladder.breaker
    metrics.watch(parts.follower, served, lambda: breaker.open)
    ids = count(1)
    routes = Routes(
        parts.follower,
        parts.ladder,
        served,
        Intake(events if kafka else None, clock, remembered=3),
        Readiness(parts.follower, parts.finder, clock, 10, live=False, loops=(), breaker=breaker),
        metrics,
        breaker,
        LatestProfiles(folder / "language" / "profiles.jsonl"),
        5.0,
    )
    settings = Settings(state=folder)
    board = Board(parts.follower, folder, clock)
    audit = folder / "audit.jsonl"
    gate = Gate(
        application(routes, BoardRoutes(board, settings), ThreadPoolExecutor(4)),
        Keyring(parse_keys(keys, "test")),
        Buckets(rate, rate, clock),
        metrics,
        Audit(audit, clock),
        deadline_s,
        lambda: f"r{next(ids)}",
        hosts,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate(scope, receive, send)  # the client takes any other callable for ASGI 2

    client = TestClient(app, raise_server_exceptions=False)
    return Site(parts, client, gate, served, lists, events, audit, board)
