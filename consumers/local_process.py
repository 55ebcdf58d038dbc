"""A server as a child process: started, asked until it is ready, stopped; its log kept."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import cast

import psutil

from consumers import local_guard
from consumers.errors import ServerUnavailable
from stream.deadline import Deadline

LOG_TAIL_LINES = 25
PROBE_EVERY_S = 0.1
LOOK_EVERY_S = 0.02
STOP_WITHIN_S = 15.0
PORT_TAKEN = ("Address already in use", "BindException", "os error 98")

Probe = Callable[[Deadline], None]
"""Asks a server for something real; raises ServerUnavailable while it is not ready."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server.

    Attributes
    ----------
    name : str
        For messages: "Kafka" or "Qdrant".
    pid : int
        Process id of the server itself.
    folder : Path
        Its data, configuration and log.
    guard : process or None
        The parent that takes the server down with us; None for one left running for a person.
    """

    name: str
    pid: int
    folder: Path
    guard: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return log_path(self.folder)

    def stop(self) -> None:
        """Stop the server and wait for its end; idempotent. The folder stays."""
        if self.guard is None:
            stop_pid(self.pid, self.folder)
            return
        if self.guard.stdin is not None and not self.guard.stdin.closed:
            self.guard.communicate(b"s", timeout=STOP_WITHIN_S)


def log_path(folder: Path) -> Path:
    """Return where a server's output goes."""
    return folder / "server.log"


def is_running(pid: int, folder: Path) -> bool:
    """Say whether ``pid`` lives and is this folder's server, not a later process of its id."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return any(str(folder) in argument for argument in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def stop_pid(pid: int, folder: Path) -> None:
    """Stop the server of this folder: politely, then not."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        if is_running(pid, folder):
            os.kill(pid, stop)
        if _ended(pid, folder, Deadline.after(STOP_WITHIN_S)):
            return


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [cast(int, one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def launch(name: str, command: Sequence[str], folder: Path, *, detached: bool) -> ServerProcess:
    """Start a server in its folder; it dies with this process unless it is detached.

    Raises
    ------
    ServerUnavailable
        If the command cannot be run.
    """
    mode = "detach" if detached else "guard"
    script = [sys.executable, "-I", "-S", local_guard.__file__, mode]
    guard = subprocess.Popen(
        [*script, str(folder), str(log_path(folder)), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A terminal's Ctrl-C is for us; we take the server down in our own order.
        start_new_session=True,
    )
    line = guard.stdout.readline() if guard.stdout is not None else b""
    if not line:
        guard.communicate()
        raise ServerUnavailable(f"{name} cannot be started: {command[0]} does not run here")
    if detached:
        guard.communicate()
        return ServerProcess(name, int(line), folder)
    return ServerProcess(name, int(line), folder, guard)


def wait_ready(server: ServerProcess, probe: Probe, deadline: Deadline) -> None:
    """Ask until the server answers.

    Raises
    ------
    ServerUnavailable
        If it ends or does not answer in time, with the end of its log and where the log lies.
    """
    reason = "it was not asked"
    while not deadline.passed:
        if _ended_within(server, PROBE_EVERY_S):
            server.stop()
            raise ServerUnavailable(_failure(server, "ended before it was ready"))
        try:
            probe(deadline)
        except ServerUnavailable as not_yet:
            reason = str(not_yet)
        else:
            return
    server.stop()
    raise ServerUnavailable(_failure(server, f"did not get ready in time ({reason})"))


def start_on_free_ports(start: Callable[[], ServerProcess], deadline: Deadline) -> ServerProcess:
    """Start again on other ports when somebody took one between the choice and the use."""
    while True:
        try:
            return start()
        except ServerUnavailable as failed:
            taken = any(sign in str(failed) for sign in PORT_TAKEN)
            if not taken or deadline.passed:
                raise


def remove_folder(folder: Path) -> None:
    """Remove a stopped server's data and log."""
    shutil.rmtree(folder, ignore_errors=True)


def log_tail(folder: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a server's log."""
    path = log_path(folder)
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _ended_within(server: ServerProcess, seconds: float) -> bool:
    """Wait a moment for the server's end: a pause between probes that a death cuts short."""
    if server.guard is not None:
        try:
            server.guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
    return _ended(server.pid, server.folder, Deadline.after(seconds))


def _ended(pid: int, folder: Path, deadline: Deadline) -> bool:
    """Wait for the end of a process that is not our child; one that nobody has reaped has ended."""
    while is_running(pid, folder):
        if deadline.passed:
            return False
        Event().wait(LOOK_EVERY_S)  # nobody sets it: a pause that a signal can end
    return True


def _failure(server: ServerProcess, what: str) -> str:
    return (
        f"{server.name} {what}; its log is {server.log} and ends with:\n{log_tail(server.folder)}"
    )
