"""Starting, asking, stopping: with small programs in the place of servers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from consumers import local_guard, local_process
from consumers.errors import ServerUnavailable
from consumers.local_process import (
    ServerProcess,
    free_ports,
    is_running,
    launch,
    log_tail,
    start_on_free_ports,
    stop_pid,
    wait_ready,
)
from stream.deadline import Deadline


def shell(folder: Path, script: str, *, detached: bool = False) -> ServerProcess:
    """A server of this folder: its command line names it, as a real one's does."""
    command = ["/bin/sh", "-c", script, str(folder)]
    return launch("Thing", command, folder, detached=detached)


def never(_: Deadline) -> None:
    raise ServerUnavailable("it does not answer")


@pytest.mark.parametrize("detached", [False, True])
def test_a_server_runs_until_it_is_stopped(tmp_path: Path, detached: bool) -> None:
    server = shell(tmp_path, "echo hello; while :; do sleep 0.05; done", detached=detached)
    assert is_running(server.pid, tmp_path)
    wait_ready(server, lambda _: None, Deadline.after(10))
    server.stop()
    assert not is_running(server.pid, tmp_path)
    server.stop()
    assert server.log.read_text() == "hello\n"


@pytest.mark.parametrize("detached", [False, True])
def test_one_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path, detached: bool) -> None:
    script = "for i in $(seq 100); do echo line $i; done; exit 3"
    server = shell(tmp_path, script, detached=detached)
    with pytest.raises(ServerUnavailable) as failed:
        wait_ready(server, never, Deadline.after(30))
    message = str(failed.value)
    assert "Thing ended before it was ready" in message
    assert str(server.log) in message
    assert "line 100" in message
    assert "line 1\n" not in message
    server.stop()


@pytest.mark.parametrize("detached", [False, True])
def test_one_that_never_answers_is_stopped_with_the_reason(tmp_path: Path, detached: bool) -> None:
    server = shell(tmp_path, "while :; do sleep 0.05; done", detached=detached)
    with pytest.raises(ServerUnavailable, match=r"did not get ready in time \(it does not answer"):
        wait_ready(server, never, Deadline.after(0.3))
    assert not is_running(server.pid, tmp_path)


def test_one_that_ignores_a_polite_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_process, "STOP_WITHIN_S", 0.3)
    server = shell(tmp_path, "trap '' TERM; echo set; while :; do sleep 0.05; done", detached=True)
    deadline = Deadline.after(10)
    while not log_tail(tmp_path) and not deadline.passed:
        pass
    server.stop()
    assert not is_running(server.pid, tmp_path)


def test_a_command_that_is_no_program_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ServerUnavailable, match="/no/such/thing does not run here"):
        launch("Thing", ["/no/such/thing"], tmp_path, detached=False)
    assert "FileNotFoundError" in capfd.readouterr().err


def test_another_process_under_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not is_running(other.pid, tmp_path)
        stop_pid(other.pid, tmp_path)
        assert other.poll() is None


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5


def test_a_port_that_was_taken_meanwhile_is_exchanged(tmp_path: Path) -> None:
    reasons = ["java.net.BindException: Address already in use", "Address already in use (os 98)"]

    def start() -> ServerProcess:
        if reasons:
            raise ServerUnavailable(reasons.pop())
        return ServerProcess("Thing", 1, tmp_path)

    assert start_on_free_ports(start, Deadline.after(10)).pid == 1


def test_any_other_failure_is_not_tried_again() -> None:
    calls: list[int] = []

    def start() -> ServerProcess:
        calls.append(1)
        raise ServerUnavailable("out of memory")

    with pytest.raises(ServerUnavailable, match="out of memory"):
        start_on_free_ports(start, Deadline.after(10))
    assert calls == [1]


def test_no_log_is_no_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path) == ""


class TestGuard:
    """In this process, so that its lines are seen; the real thing is in test_local."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "server"
        folder.mkdir()
        return folder

    def run(self, folder: Path, mode: str, script: str, control: int) -> int:
        log = str(folder.parent / "log")
        return local_guard.main([mode, str(folder), log, "/bin/sh", "-c", script], control)

    def test_told_to_stop_it_keeps_the_folder(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        ours, theirs = os.pipe()
        os.write(theirs, b"s")
        assert self.run(folder, "guard", "exec sleep 600", ours) == 0
        assert folder.exists()
        assert not psutil.pid_exists(int(capfd.readouterr().out))
        os.close(ours)
        os.close(theirs)

    def test_left_alone_it_removes_the_folder(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        ours, theirs = os.pipe()
        os.close(theirs)
        assert self.run(folder, "guard", "exec sleep 600", ours) == 0
        assert not folder.exists()
        assert not psutil.pid_exists(int(capfd.readouterr().out))
        os.close(ours)

    def test_the_server_s_own_end_is_the_guard_s(self, folder: Path) -> None:
        ours, theirs = os.pipe()
        assert self.run(folder, "guard", "exit 7", ours) == 7
        os.close(ours)
        os.close(theirs)

    def test_a_new_parent_is_the_old_one_s_end(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ours, theirs = os.pipe()
        parents = iter([1, 2])
        monkeypatch.setattr(os, "getppid", lambda: next(parents))
        assert self.run(folder, "guard", "exec sleep 600", ours) == 0
        assert not folder.exists()
        os.close(ours)
        os.close(theirs)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_detached_it_leaves_the_server(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(folder, "detach", "exec sleep 600", -1) == 0
        pid = int(capfd.readouterr().out)
        assert psutil.pid_exists(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
