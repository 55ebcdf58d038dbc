"""A Kafka broker of a test's own, to be killed and started again on what it has left."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers import local_kafka
from consumers.local_cache import cache_dir
from consumers.local_process import ServerProcess, launch
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, await_broker, await_listener

START_S = 90.0


@dataclass
class Broker:
    """It, where it is, and how it was started."""

    server: ServerProcess
    bootstrap: str
    command: list[str]

    def kill(self) -> None:
        """End it at once, as a machine that fails does."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    def revive(self) -> None:
        """Start it again, on the same port and data."""
        self.server = launch("Kafka", self.command, self.server.folder, detached=False)
        await_listener(KafkaCluster(self.bootstrap), Deadline.after(START_S))
        await_broker(self.bootstrap, Deadline.after(START_S))


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """One that ends with the block."""
    server, bootstrap = local_kafka.start(folder, cache_dir(), Deadline.after(START_S))
    words = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    made = Broker(server, bootstrap, words)
    try:
        yield made
    finally:
        made.server.stop()
