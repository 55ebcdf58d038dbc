"""Looking before running: are the servers there, is the state readable; and servers to try with."""

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from rich.console import Console

from consumers import local, wiring
from consumers.errors import ConsumerError
from consumers.settings import Settings
from consumers.versions import Versions
from model.errors import ModelError
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import StreamError
from stream.kafka_topics import topics
from stream.snapshot import SnapshotStore

ASK_TIMEOUT_S = 10.0


class Finding(TypedDict):
    """One thing that was looked at."""

    ok: bool
    said: str


def check(settings: Settings) -> dict[str, Finding]:
    """Look at all that a program would need; nothing is changed."""
    return {
        "settings": Finding(ok=True, said=settings.model_dump_json(exclude_none=True)),
        "kafka": _try(lambda: _kafka(settings)),
        "vectors": _try(lambda: _vectors(settings)),
        "snapshot": _try(lambda: _snapshot(settings)),
        "model": _try(lambda: _model(settings)),
    }


def _try(look: Callable[[], str]) -> Finding:
    try:
        return Finding(ok=True, said=look())
    except (ConsumerError, StreamError, ModelError) as error:
        return Finding(ok=False, said=f"{type(error).__name__}: {error}")


def _kafka(settings: Settings) -> str:
    if settings.kafka is None:
        return "not asked for: events come from files or the simulator"
    there = topics(wiring.cluster(settings), Deadline.after(ASK_TIMEOUT_S))
    known = "is there" if settings.topic in there else "is not there yet and will be made"
    return f"{settings.kafka} answers; topic {settings.topic} {known}"


def _vectors(settings: Settings) -> str:
    if settings.qdrant is None and not (settings.state / "index").is_dir():
        return "not made yet: the embedded engine will be, in the state folder"
    index = wiring.open_index(settings)
    try:
        return f"{settings.qdrant or settings.state / 'index'}: {', '.join(index.collections())}"
    finally:
        index.close()


def _snapshot(settings: Settings) -> str:
    view = SnapshotStore(settings.graph_dir, SystemClock()).open_view()
    if view is None:
        return f"{settings.graph_dir}: none yet"
    return f"{settings.graph_dir}: number {view.info.number}, {view.info.edges:,} edges"


def _model(settings: Settings) -> str:
    newest = Versions(settings.models_dir).newest()
    if newest is None:
        return f"{settings.models_dir}: none yet"
    return f"version {newest.number}: {len(newest.load().items):,} items"


def local_up(folder: Path = local.DEFAULT_FOLDER) -> dict[str, object]:
    """Start both servers and say how programs find them."""
    servers = local.up(folder, lambda line: Console(stderr=True).print(line))
    return {
        "servers": [_told(s) for s in servers],
        "export": {k: v for server in servers for k, v in server.environment().items()},
    }


def local_down(folder: Path = local.DEFAULT_FOLDER) -> dict[str, object]:
    """Stop both servers; their data stays."""
    return {"stopped": [server.name for server in local.down(folder)]}


def local_status(folder: Path = local.DEFAULT_FOLDER) -> dict[str, object]:
    """What runs."""
    return {"servers": [_told(server) for server in local.status(folder)]}


def _told(server: local.LocalServer) -> dict[str, object]:
    return {
        "name": server.name,
        "address": server.address,
        "running": server.running,
        "pid": server.pid,
        "log": str(server.log),
    }
