"""Kafka and Qdrant on this machine: for a person (`up`, `status`, `down`), or for one program.

Nothing need be installed beside the extra ``local``: see `local_kafka` and `local_qdrant`.
"""

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from consumers import local_kafka, local_qdrant
from consumers.local_cache import cache_dir
from consumers.local_process import ServerProcess, is_running, log_path, remove_folder, stop_pid
from consumers.local_qdrant import QdrantAddress
from stream.deadline import Deadline

KAFKA_VARIABLE = "GOAT_KAFKA"
QDRANT_VARIABLE = "GOAT_QDRANT"
DEFAULT_FOLDER = Path(".goat")
STATE_FILE = "local.json"
# The first start downloads 44 MB of jars and a 30 MB binary.
START_TIMEOUT_S = 300.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LocalServer:
    """One server that was left running for a person.

    Attributes
    ----------
    name : str
        "Kafka" or "Qdrant".
    address : str
        What a program is given: ``host:port`` of Kafka, the URL of Qdrant.
    pid : int
    folder : str
        Its data, configuration and log (``server.log``).
    grpc_port : int or None
        Qdrant's other port.
    """

    name: str
    address: str
    pid: int
    folder: str
    grpc_port: int | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return is_running(self.pid, Path(self.folder))

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return log_path(Path(self.folder))

    def environment(self) -> dict[str, str]:
        """Return the variables that point programs and tests at this server."""
        if self.grpc_port is None:
            return {KAFKA_VARIABLE: self.address}
        return {QDRANT_VARIABLE: self.address, "GOAT_QDRANT_GRPC_PORT": str(self.grpc_port)}


_SERVERS = TypeAdapter(list[LocalServer])


def up(folder: Path = DEFAULT_FOLDER, progress: Progress = lambda _: None) -> list[LocalServer]:
    """Start what does not run yet, and leave it running.

    Parameters
    ----------
    folder : Path
        Where data, logs and the list of servers lie; data of an earlier `up` is used on.
    progress : callable
        Told what is being done.

    Raises
    ------
    ServerUnavailable
        If a server cannot be had; one that was started stays, for `down` to stop.
    """
    folder = folder.resolve()
    known = {server.name: server for server in status(folder)}
    starters = {"Kafka": _start_kafka, "Qdrant": _start_qdrant}
    for name, start in starters.items():
        if name in known and known[name].running:
            progress(f"{name} runs already at {known[name].address}")
            continue
        progress(f"starting {name} (the first time it is downloaded)")
        known[name] = start(folder / name.lower())
        _save(folder, known)
    return list(known.values())


def status(folder: Path = DEFAULT_FOLDER) -> list[LocalServer]:
    """Return the servers that `up` started here and `down` has not stopped, running or not."""
    state = folder.resolve() / STATE_FILE
    if not state.exists():
        return []
    return _SERVERS.validate_json(state.read_bytes())


def down(folder: Path = DEFAULT_FOLDER, *, purge: bool = False) -> list[LocalServer]:
    """Stop what `up` started here and return it; ``purge`` removes the data and logs as well."""
    folder = folder.resolve()
    servers = status(folder)
    for server in servers:
        stop_pid(server.pid, Path(server.folder))
        if purge:
            remove_folder(Path(server.folder))
    (folder / STATE_FILE).unlink(missing_ok=True)
    return servers


@contextmanager
def kafka(keep_log: Callable[[], bool] = lambda: False) -> Generator[str]:
    """Give a broker's address: ``$GOAT_KAFKA``, or one of our own that ends with the block.

    Parameters
    ----------
    keep_log : callable
        Asked at the end whether somebody will want the log; it is kept too when the block raises.

    Raises
    ------
    ServerUnavailable
        If there is none and none can be had.
    """
    if named := os.environ.get(KAFKA_VARIABLE):
        yield named
        return
    with _folder("kafka", keep_log) as folder:
        server, bootstrap = local_kafka.start(folder, cache_dir(), Deadline.after(START_TIMEOUT_S))
        with _stopped_at_end(server):
            yield bootstrap


@contextmanager
def qdrant(
    keep_log: Callable[[], bool] = lambda: False, *, api_key: str | None = None
) -> Generator[QdrantAddress]:
    """Give a Qdrant server: ``$GOAT_QDRANT``, or one of our own that ends with the block.

    Parameters
    ----------
    keep_log : callable
        As for `kafka`.
    api_key : str, optional
        Ask for it of every client; a server with a key is always one of our own.

    Raises
    ------
    ServerUnavailable
        If there is none and none can be had.
    """
    if api_key is None and (named := os.environ.get(QDRANT_VARIABLE)):
        port = int(os.environ.get("GOAT_QDRANT_GRPC_PORT", "6334"))
        yield QdrantAddress(named, port, os.environ.get("GOAT_QDRANT_API_KEY"))
        return
    with _folder("qdrant", keep_log) as folder:
        deadline = Deadline.after(START_TIMEOUT_S)
        server, address = local_qdrant.start(folder, cache_dir(), deadline, api_key=api_key)
        with _stopped_at_end(server):
            yield address


@contextmanager
def _folder(name: str, keep_log: Callable[[], bool]) -> Generator[Path]:
    """Make a temporary folder; the log survives it when it is wanted, the data never does."""
    folder = Path(tempfile.mkdtemp(prefix=f"goat-{name}-"))
    keep = True
    try:
        yield folder
        keep = keep_log()
    finally:
        for path in folder.iterdir() if keep else ():
            if path.is_dir():
                remove_folder(path)
        if not keep:
            remove_folder(folder)


@contextmanager
def _stopped_at_end(server: ServerProcess) -> Generator[None]:
    try:
        yield
    finally:
        server.stop()


def _start_kafka(folder: Path) -> LocalServer:
    deadline = Deadline.after(START_TIMEOUT_S)
    server, bootstrap = local_kafka.start(folder, cache_dir(), deadline, detached=True)
    return LocalServer("Kafka", bootstrap, server.pid, str(folder))


def _start_qdrant(folder: Path) -> LocalServer:
    deadline = Deadline.after(START_TIMEOUT_S)
    server, address = local_qdrant.start(folder, cache_dir(), deadline, detached=True)
    return LocalServer("Qdrant", address.url, server.pid, str(folder), address.grpc_port)


def _save(folder: Path, servers: dict[str, LocalServer]) -> None:
    """Write the list whole or not at all: a torn one would leave servers that nobody can stop."""
    written = folder / f"{STATE_FILE}.new"
    written.write_bytes(_SERVERS.dump_json(list(servers.values()), indent=1))
    written.replace(folder / STATE_FILE)
