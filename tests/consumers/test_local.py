"""`up`, `status`, `down`, and servers that end with the program that asked for them."""

import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from consumers import local
from consumers.errors import ServerUnavailable
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, topics

pytestmark = pytest.mark.servers

HOLDER = """
import sys
from consumers import local
with local.qdrant() as address:
    print(address.url, flush=True)
    sys.stdin.read()
"""


def own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (local.KAFKA_VARIABLE, local.QDRANT_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def test_up_leaves_both_running_for_a_person_and_down_stops_them(tmp_path: Path) -> None:
    folder = tmp_path / ".goat"
    said: list[str] = []
    try:
        # As the command does it: the process that starts them ends.
        code = f"from consumers import local; local.up(local.Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
        kafka, qdrant = local.status(folder)
        assert (kafka.name, qdrant.name) == ("Kafka", "Qdrant")
        assert kafka.running
        assert qdrant.running
        assert topics(KafkaCluster(kafka.address), Deadline.after(10)) == []
        assert urlopen(f"{qdrant.address}/collections").status == 200
        assert kafka.environment() == {"GOAT_KAFKA": kafka.address}
        assert qdrant.environment() == {
            "GOAT_QDRANT": qdrant.address,
            "GOAT_QDRANT_GRPC_PORT": str(qdrant.grpc_port),
        }
        assert kafka.log.read_text()

        psutil.Process(qdrant.pid).kill()
        psutil.wait_procs([psutil.Process(qdrant.pid)], timeout=10)
        again = local.up(folder, said.append)
        assert again[0] == kafka
        assert again[1].pid != qdrant.pid
        assert said == [
            f"Kafka runs already at {kafka.address}",
            "starting Qdrant (the first time it is downloaded)",
        ]
    finally:
        stopped = local.down(folder)
    assert not any(server.running for server in stopped)
    assert local.status(folder) == []
    assert (folder / "kafka" / "data").exists()
    assert local.down(folder) == []


def test_a_later_up_finds_the_data_and_purge_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_start_kafka", local._start_qdrant)
    (tmp_path / "kafka").mkdir()
    try:
        local.up(tmp_path)
        local.down(tmp_path)
        assert (tmp_path / "qdrant" / "data").exists()
        _, qdrant = local.up(tmp_path)
        assert qdrant.running
    finally:
        local.down(tmp_path, purge=True)
    assert not (tmp_path / "qdrant").exists()


def test_a_server_ends_with_a_program_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    own_servers(monkeypatch)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith(b"http://127.0.0.1:")
    family = psutil.Process(holder.pid).children(recursive=True)
    assert len(family) == 2, "a guard and a server"
    folder = Path(family[0].cwd()), Path(family[1].cwd())
    holder.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    assert not folder[1].exists(), "nobody is left to look at its data"
    holder.communicate()


def test_a_server_ends_with_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    own_servers(monkeypatch)
    others = set(psutil.Process().children())  # the guards of servers that all tests share
    with local.qdrant():
        (guard,) = set(psutil.Process().children()) - others
        assert "local_guard" in str(guard.cmdline())
        (server,) = guard.children()
        guard.kill()
        assert not psutil.wait_procs([server], timeout=15)[1]


def test_a_named_server_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOAT_KAFKA", "broker:9092")
    monkeypatch.setenv("GOAT_QDRANT", "https://vectors:6333")
    monkeypatch.setenv("GOAT_QDRANT_GRPC_PORT", "7334")
    monkeypatch.setenv("GOAT_QDRANT_API_KEY", "secret")
    with local.kafka() as bootstrap, local.qdrant() as address:
        assert bootstrap == "broker:9092"
        assert (address.url, address.grpc_port) == ("https://vectors:6333", 7334)
        assert address.api_key == "secret"
        assert "secret" not in repr(address)


def test_a_key_is_asked_for_where_one_was_set() -> None:
    with local.qdrant(api_key="secret") as address, pytest.raises(HTTPError) as refused:
        urlopen(f"{address.url}/collections")
    assert refused.value.code == 401
    refused.value.close()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_log_is_kept_for_whoever_wants_it_and_data_never(
    wanted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_servers(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with local.qdrant(lambda: wanted):
        assert [p.name for p in tmp_path.glob("goat-qdrant-*/data")] == ["data"]
    assert len(list(tmp_path.glob("goat-qdrant-*/server.log"))) == wanted
    assert not list(tmp_path.glob("goat-qdrant-*/data"))


def test_the_log_is_kept_when_the_program_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_servers(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError), local.qdrant():
        raise ZeroDivisionError
    assert list(tmp_path.glob("goat-qdrant-*/server.log"))


def test_a_server_that_cannot_be_had_is_an_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_servers(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("GOAT_QDRANT_BINARY", "/bin/false")
    with pytest.raises(ServerUnavailable, match="ended before it was") as failed, local.qdrant():
        pass
    assert str(next(tmp_path.glob("goat-qdrant-*/server.log"))) in str(failed.value)
