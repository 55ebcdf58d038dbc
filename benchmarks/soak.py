"""Live for a while under faults, and be what the oracle says in the end.

    python benchmarks/soak.py [--minutes M] [--rate N] [--every S] [--seed N]

A simulated platform sends messages to a real Kafka broker at a rate; `goat ingest` keeps a graph
and the vectors in a real Qdrant. Every few seconds one fault of a random kind is injected:

killed     the program, by SIGKILL
paused     the program, by SIGSTOP, for some seconds
adopting   a new model version appears, and the program is killed while it adopts it
torn       the program is killed, and a file of its newest snapshot cut short
broker     Kafka, by SIGKILL; it comes back on its data
index      Qdrant, by SIGKILL; it comes back on its data
poisoned   500 messages that are none, of each kind that the fuzzer knows
repeated   the last 2,000 messages once more

Whoever ends is started again, as a supervisor would. At the end the topic itself is read with
another client library, from its first to its last message, by the plain oracle of the tests, and
compared: every edge, every count, and the vectors of all users in Qdrant.

Memory is bounded (window, remembered ids), and filled before the clock starts. The slope of
resident memory is a regression over the last sample of each life of the program; its interval is
by Student's t. The last line is one JSON object: ``faults``, ``by_kind``, ``lost``, ``doubled``,
``regressed`` (users whose vector is not that of their last events), ``rss_slope_mb_per_h``,
``slope_ci95``, ``rss_mb``, ``rate``, ``messages``.
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import Producer
from freshness import PARTITIONS, TOPIC, Goat, say
from scipy.stats import linregress
from scipy.stats import t as student
from soaked import ends, verdict

from consumers import local_kafka, local_qdrant
from consumers.errors import ConsumerError
from consumers.feed import key_of
from consumers.local_cache import cache_dir
from consumers.local_process import ServerProcess, launch
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, await_broker, await_listener, ensure_topic
from stream.simulator import Simulator, SimulatorConfig
from stream.snapshot import SnapshotStore

START_S = 90.0
CHUNKS_A_SECOND = 10
FILL = 600_000  # messages before the clock starts: all windows are full then
SETTLED_S = 5.0  # of a life, before its memory counts
POISON, REPEATED = 500, 2_000
BOUNDS = {"GOAT_REMEMBERED": "65536", "GOAT_JOINABLE": "65536", "GOAT_WINDOW_DAYS": "10"}


@dataclass
class Server:
    """A server that can be killed and comes back on its data."""

    process: ServerProcess
    command: list[str]
    back: Callable[[], None]

    @classmethod
    def of(cls, process: ServerProcess, back: Callable[[], None]) -> "Server":
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        return cls(process, words, back)

    def stop(self) -> None:
        """End it, and leave its data."""
        self.process.stop()

    def fail(self, seconds: float) -> None:
        """End it at once, and start it again after so long."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop()
        threading.Event().wait(seconds)
        self.process = launch(self.process.name, self.command, self.process.folder, detached=False)
        self.back()


@dataclass
class Life:
    """Memory of one run of the program: when it was last looked at, and what it held."""

    began_s: float
    seen_s: float = 0.0
    rss_mb: float = 0.0


@dataclass
class Soak:
    """The program, its servers, and what is done to them."""

    goat: Goat
    kafka: Server
    qdrant: Server
    producer: Producer
    rng: np.random.Generator
    done: Counter[str] = field(default_factory=Counter[str])
    lives: list[Life] = field(default_factory=list[Life])
    sent: int = 0
    restarts: int = 0
    _last: list[bytes] = field(default_factory=list[bytes])
    _program: "subprocess.Popen[bytes] | None" = None
    _paused: bool = False
    _torn: Path | None = None

    # -- what goes on

    def send(self, messages: list[bytes]) -> None:
        """Send messages; the client waits for a broker that is away."""
        for message in messages:
            while True:
                try:
                    self.producer.produce(TOPIC, message, key=key_of(message) or b"platform")
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
        self.sent += len(messages)
        self._last = [*self._last, *messages][-REPEATED:]

    def supervise(self) -> None:
        """Start the program if it does not run, and look at its memory."""
        if self._program is None or self._program.poll() is not None:
            self.restarts += self._program is not None
            self._program = self.goat.start("ingest", "--quiet")
            self.lives.append(Life(time.monotonic()))
        life, now_s = self.lives[-1], time.monotonic()
        if now_s - life.began_s > SETTLED_S and not self._paused:
            life.seen_s = now_s
            life.rss_mb = psutil.Process(self._program.pid).memory_info().rss / 2**20

    def end(self) -> None:
        """Let the program finish what there is to read, and end."""
        if self._program is not None:
            self._program.terminate()
            self._program.wait(120)
        if left := self.unread():
            self.goat.run("ingest", "--quiet", "--limit", str(left))

    def unread(self) -> int:
        """Messages of the topic that the saved state has not taken."""
        found = SnapshotStore(self.state / "graph", SystemClock()).newest()
        return ends(self.goat.environment["GOAT_KAFKA"]) - sum(
            found.positions.values() if found else ()
        )

    @property
    def state(self) -> Path:
        return Path(self.goat.environment["GOAT_STATE"])

    # -- faults

    def fault(self) -> str:
        """Inject one of a random kind; which."""
        kinds: list[Callable[[], None]] = [
            self.killed, self.paused, self.adopting, self.torn,
            self.broker, self.index, self.poisoned, self.repeated,
        ]  # fmt: skip
        chosen = kinds[int(self.rng.integers(len(kinds)))]
        chosen()
        self.done[chosen.__name__] += 1
        return chosen.__name__

    def killed(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.wait()

    def paused(self) -> None:
        if self._program is not None and self._program.poll() is None:
            self._paused = True
            self._program.send_signal(signal.SIGSTOP)
            threading.Event().wait(float(self.rng.uniform(0.5, 4.0)))
            self._program.send_signal(signal.SIGCONT)
            self._paused = False

    def adopting(self) -> None:
        self.goat.start("finetune", "--once", niceness=5).wait(300)
        threading.Event().wait(float(self.rng.uniform(0.0, 2.5)))
        self.killed()

    def torn(self) -> None:
        """Only what the newest snapshot alone has: an older one is whole, as after a real tear."""
        self.killed()
        newest, *older = sorted((self.state / "graph" / "snapshots").glob("*.json"))[::-1]
        if newest == self._torn:  # no other has come since: a second tear is not promised anything
            return
        self._torn = newest
        before = "".join(path.read_text() for path in older)
        logs = json.loads(newest.read_bytes())["body"]["logs"]
        named = {piece["file"] for pieces in logs.values() for piece in pieces}
        own = [newest.parents[1] / "segments" / name for name in named if name not in before]
        target = [newest, *sorted(own)][int(self.rng.integers(1 + len(own)))]
        content = target.read_bytes()
        target.write_bytes(content[: int(self.rng.integers(len(content)))])

    def broker(self) -> None:
        self.kafka.fail(float(self.rng.uniform(0.5, 3.0)))

    def index(self) -> None:
        self.qdrant.fail(float(self.rng.uniform(0.5, 3.0)))

    def poisoned(self) -> None:
        some = [bytearray(m) for m in self._last[:POISON]]
        for message in some:
            kind, at = int(self.rng.integers(3)), int(self.rng.integers(len(message)))
            if kind == 0:
                del message[at:]
            elif kind == 1:
                message[at] = 0xFF
            else:
                message[at:at] = b"\0{"
        self.send([bytes(message) for message in some])

    def repeated(self) -> None:
        self.send(list(self._last))


def slope(lives: list[Life]) -> tuple[float, list[float], float]:
    """Megabytes an hour over the lives of the program, their 95 % interval, and their median."""
    seen = [life for life in lives if life.rss_mb]
    hours = np.array([life.seen_s for life in seen]) / 3_600
    held = np.array([life.rss_mb for life in seen])
    fit: Any = linregress(hours, held)
    wide = float(student.ppf(0.975, len(seen) - 2)) * fit.stderr
    return fit.slope, [fit.slope - wide, fit.slope + wide], float(np.median(held))


# -- the whole


def play(soak: Soak, given: argparse.Namespace) -> None:
    """Fill the windows, then live for so long."""
    config = SimulatorConfig(
        FILL + int(given.minutes * 60 * given.rate * 1.2),
        users=3_000, items=800, new_items=0.0, removed_items=0.0, campaigns=8,
        page_gap_s=80.0,
    )  # fmt: skip
    messages = iter(Simulator(config, np.random.default_rng(given.seed)))
    say(f"{FILL:,} messages fill the windows, and a first version is learned")
    soak.send(list(islice(messages, FILL)))
    soak.producer.flush(300)
    soak.goat.run("ingest", "--quiet", "--limit", str(FILL))
    soak.goat.run("finetune", "--once")
    began_s, chunk, sent = time.monotonic(), int(given.rate / CHUNKS_A_SECOND), 0
    next_s, pause = began_s + given.every, threading.Event()
    while (now_s := time.monotonic()) < began_s + 60 * given.minutes:
        soak.supervise()
        if now_s >= next_s:
            say(f"{now_s - began_s:4.0f} s: {soak.fault()}")
            next_s += given.every
        due = int((time.monotonic() - began_s) * given.rate)
        while sent < due:  # what was due while a fault took its time is sent now
            now = list(islice(messages, chunk))
            soak.send(now)
            sent += len(now)
        pause.wait(max(0.0, began_s + (sent + chunk) / given.rate - time.monotonic()))
    say(f"sent {soak.sent:,}; {soak.restarts} restarts; reading to the end")
    soak.producer.flush(300)
    soak.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=2_000.0, help="messages a second")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goat-soak-") as name, ExitStack() as stack:
        soak = begun(Path(name), stack, given.seed)
        play(soak, given)
        own = {k.removeprefix("GOAT_").lower(): v for k, v in soak.goat.environment.items()}
        settings = Settings(**{k: own[k] for k in own.keys() & Settings.model_fields.keys()})  # type: ignore[arg-type]
        found = verdict(settings.kafka or "", settings)
    rising, interval, median_mb = slope(soak.lives)
    print(
        json.dumps(
            {
                "faults": soak.done.total(),
                **found,
                "rss_slope_mb_per_h": round(rising, 1),
                "slope_ci95": [round(end, 1) for end in interval],
                "rss_mb": round(median_mb),
                "by_kind": dict(sorted(soak.done.items())),
                "restarts": soak.restarts,
                "messages": soak.sent,
                "rate": given.rate,
            }
        )
    )


def begun(folder: Path, stack: ExitStack, seed: int) -> Soak:
    """Start the servers; they and the program end with the stack."""
    kafka, bootstrap = local_kafka.start(folder / "k", cache_dir(), Deadline.after(START_S))
    qdrant, address = local_qdrant.start(folder / "q", cache_dir(), Deadline.after(START_S))
    goat = Goat.of(bootstrap, address, folder)
    goat.environment.update(BOUNDS, GOAT_SNAPSHOT_EVERY_S="2", GOAT_MODEL='{"context": 30}')
    options: dict[str, Any] = {"bootstrap.servers": bootstrap, "enable.idempotence": True}
    options |= {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "log_level": 0}
    broker = Server.of(kafka, lambda: broker_back(bootstrap))
    index = Server.of(qdrant, lambda: index_back(address))
    soak = Soak(goat, broker, index, Producer(options), np.random.default_rng(seed))
    stack.callback(broker.stop)
    stack.callback(index.stop)
    stack.callback(soak.killed)
    cluster, deadline = KafkaCluster(bootstrap), Deadline.after(60.0)
    ensure_topic(cluster, TOPIC, deadline, partitions=PARTITIONS)
    return soak


def broker_back(bootstrap: str) -> None:
    await_listener(KafkaCluster(bootstrap), Deadline.after(START_S))
    await_broker(bootstrap, Deadline.after(START_S))


def index_back(address: QdrantAddress) -> None:
    until = Deadline.after(START_S)
    while True:
        try:
            QdrantIndex(address.url, grpc_port=address.grpc_port).close()
            return
        except ConsumerError:
            if until.passed:
                raise
            threading.Event().wait(0.1)


if __name__ == "__main__":
    main()
