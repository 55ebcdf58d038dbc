"""Start, stop, and what a program's exit code means.

==== ===============================================================
code meaning
==== ===============================================================
0    done, or stopped on request after everything was committed
1    the program found something wrong and said what
2    the command line was wrong
3    a server that was asked for cannot be had
70   a fault of our own: the traceback is printed, state is as of the last commit
130  stopped at once by a second interrupt
==== ===============================================================
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from consumers.errors import ConsumerError, ServerUnavailable
from consumers.logs import log
from model.errors import ModelError
from stream.errors import StreamError

_NAP_S = 0.2
FAILED, UNAVAILABLE, FAULT, INTERRUPTED = 1, 3, 70, 130


class Stop:
    """Whether the program was asked to stop.

    The first SIGTERM or SIGINT asks: the loop finishes its batch, commits and leaves. A second
    SIGINT ends the process at once; the state on disk is then that of the last commit.
    """

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Ask for an orderly end."""
        self.requested = True

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the end is asked for."""
        until_s = time.monotonic() + seconds
        while not self.requested and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _NAP_S))

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: ask first, leave at once on the second interrupt."""
        if self.requested and number == signal.SIGINT:
            os._exit(INTERRUPTED)
        self.requested = True

    @contextmanager
    def listening(self) -> Generator["Stop"]:
        """Listen to SIGTERM and SIGINT inside the block, and restore the handlers after it."""
        before = {n: signal.signal(n, self.on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Background:
    """A loop in a thread, whose end by a fault of ours is printed and noticed.

    Parameters
    ----------
    name : str
    loop : callable
        Given an event; returns soon after it is set.

    Attributes
    ----------
    fault : str or None
        What ended it before it was asked to.
    """

    def __init__(self, name: str, loop: Callable[[threading.Event], None]) -> None:
        self.fault: str | None = None
        self._stop = threading.Event()
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout_s: float = 30.0) -> None:
        """Ask for the end and wait for it; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._loop(self._stop)
        except Exception as error:  # noqa: BLE001 - it is reported, and makes the server not ready
            self.fault = f"{self._thread.name} has ended: {type(error).__name__}: {error}"
            log.exception("a loop has ended by a fault of ours", loop=self._thread.name)


def guarded(program: Callable[[], int]) -> int:
    """Run a program and turn what it raises into a message and an exit code."""
    try:
        return program()
    except ServerUnavailable as error:
        return _say(error, UNAVAILABLE)
    except (ConsumerError, StreamError, ModelError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the one place that may: it reports and ends the process
        log.exception("a fault of ours")
        return FAULT


def _say(error: Exception, code: int) -> int:
    log.error(f"{type(error).__name__}: {error}", code=code)
    return code
