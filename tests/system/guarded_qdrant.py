"""A Qdrant server over TLS with two keys, the second for reading only."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from consumers.errors import ServerUnavailable
from consumers.local_cache import cache_dir
from consumers.local_process import free_ports, launch, wait_ready
from consumers.local_qdrant import binary
from stream.deadline import Deadline
from tests.system.authority import HOST, Authority

START_S = 60.0
KEY, READING_KEY = "write-and-read-4714", "only-read-4715"


@dataclass(frozen=True)
class GuardedQdrant:
    """Where it listens, and how one gets in."""

    url: str
    grpc_port: int
    ca: Path

    def settings(self, **other: object) -> dict[str, object]:
        """Settings of a client; ``other`` replaces some, None takes one away."""
        usual: Mapping[str, object] = {
            "qdrant": self.url,
            "qdrant_grpc_port": self.grpc_port,
            "qdrant_api_key": KEY,
            "qdrant_ca": self.ca,
            **other,
        }
        return {name: value for name, value in usual.items() if value is not None}


@contextmanager
def guarded_qdrant(folder: Path) -> Iterator[GuardedQdrant]:
    """One that ends with the block."""
    authority = Authority(folder / "certificates")
    server = authority.issue("qdrant")
    http, grpc = free_ports(2)
    settings = folder / "qdrant.yaml"
    settings.write_text(
        json.dumps(
            {
                "service": {
                    "host": HOST,
                    "http_port": http,
                    "grpc_port": grpc,
                    "api_key": KEY,
                    "read_only_api_key": READING_KEY,
                    "enable_tls": True,
                },
                "tls": {"cert": str(server.certificate), "key": str(server.key)},
                "storage": {
                    "storage_path": str(folder / "data"),
                    "snapshots_path": str(folder / "snapshots"),
                },
                "telemetry_disabled": True,
            }
        )
    )
    made = GuardedQdrant(f"https://{HOST}:{http}", grpc, authority.file)
    command = [str(binary(cache_dir())), "--config-path", str(settings), "--disable-telemetry"]
    process = launch("Qdrant", command, folder, detached=False)
    trusted = ssl.create_default_context(cafile=authority.file)

    def answers(_: Deadline) -> None:
        try:
            httpx.get(f"{made.url}/readyz", verify=trusted).raise_for_status()
        except httpx.HTTPError as not_yet:
            raise ServerUnavailable(str(not_yet)) from not_yet

    try:
        wait_ready(process, answers, Deadline.after(START_S))
        yield made
    finally:
        process.stop()
