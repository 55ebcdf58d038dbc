"""A small parent for a server process, so that no server outlives the program that asked for it.

Run as a script (standard library only, no import of this project, so that it starts at once):

    python local_guard.py guard  FOLDER LOG COMMAND...    stays; the server dies with our parent
    python local_guard.py detach FOLDER LOG COMMAND...    leaves the server running and exits

Both print the server's process id. A guard reads its standard input: ``s`` means stop the server,
the end of the input means that the parent is gone (even by SIGKILL: the kernel closes the pipe),
in which case the server's folder goes too, for nobody is left to look at it.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

POLL_S = 0.25
PR_SET_PDEATHSIG = 1


def _die_with_guard() -> None:
    """Ask Linux to kill this process with the guard: covers a SIGKILL of the guard itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _parent_said(control: int, parent: int) -> bytes | None:
    """Return what came from the parent, ``b""`` when it is gone, None when it is silent."""
    readable, _, _ = select.select([control], [], [], POLL_S)
    if readable:
        return os.read(control, 1)
    # A forked copy of the parent may hold the pipe open after the parent's death.
    return b"" if os.getppid() != parent else None


def _watch(server: "subprocess.Popen[bytes]", folder: Path, control: int, parent: int) -> int:
    said: bytes | None = None
    while said is None and server.poll() is None:
        said = _parent_said(control, parent)
    if said is None:
        return server.returncode
    server.kill()
    server.wait()
    if said == b"":
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def main(arguments: list[str], control: int = 0) -> int:
    """Start the server that the command line names, and guard it when asked to.

    Parameters
    ----------
    control : int
        File descriptor that the parent speaks on, and closes by its end.
    """
    mode, folder, log, *command = arguments
    parent = os.getppid()
    guarded = mode == "guard"
    with Path(log).open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=not guarded,
            # Safe here: the guard has one thread, so no lock can be held across the fork.
            preexec_fn=_die_with_guard if guarded else None,  # noqa: PLW1509
        )
    os.write(sys.stdout.fileno(), f"{server.pid}\n".encode())
    return _watch(server, Path(folder), control, parent) if guarded else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
