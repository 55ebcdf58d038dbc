"""When to fine-tune: every so often, every so many events, or on request.

A fine-tune is an APScheduler job in a process of its own, so that it never runs on the thread
that polls. There is one worker and one job: two never run at once, and what falls due while one
runs is coalesced into a single run after it.
"""

import ctypes
import math
import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from consumers.retraining import Requests

_JOB = "finetune"
_NEVER_S = 10 * 365 * 86_400
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the job came to: its return value, or the error that ended it."""

    value: str | None
    error: str | None = None


class Scheduler:
    """Runs one job in one worker process.

    Parameters
    ----------
    job : callable
        A module-level function of keyword strings; returns a short string.
    arguments : mapping
        Its keyword arguments: plain strings, since they cross into another process.
    interval_s : float, optional
        Run at least this often, in seconds.
    every_events : int, optional
        Run each time this many events have been noted.

    Attributes
    ----------
    noted : int
        Events since the last request; may be set to go on where another process stopped.
    """

    def __init__(
        self,
        job: Callable[..., str],
        arguments: Mapping[str, str],
        *,
        interval_s: float | None = None,
        every_events: int | None = None,
    ) -> None:
        self.every_events = every_events
        self.noted = 0
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False
        self._again = False
        self._scheduler = BackgroundScheduler(
            executors={"default": _Worker(self._ended)}, timezone=UTC
        )
        self._scheduler.add_listener(self._on_start, EVENT_JOB_SUBMITTED)
        self._scheduler.add_listener(self._on_end, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        self._job = self._scheduler.add_job(
            job,
            IntervalTrigger(seconds=math.ceil(interval_s or _NEVER_S), timezone=UTC),
            kwargs=dict(arguments),
            id=_JOB,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def start(self) -> None:
        """Start the clock of the interval, if there is one."""
        self._scheduler.start()

    def due_in(self) -> int | None:
        """Events until the next run falls due; None when events do not count."""
        return None if self.every_events is None else max(self.every_events - self.noted, 0)

    def note(self, events: int) -> bool:
        """Count events; True when a run has fallen due, which the caller may then `request`."""
        self.noted += events
        return self.every_events is not None and self.noted >= self.every_events

    def request(self) -> None:
        """Run now; once more after the present run when one is under way."""
        with self._lock:
            self.noted = 0
            if self._running:
                self._again = True
                return
        self._scheduler.modify_job(_JOB, next_run_time=datetime.now(UTC))

    def request_if(self, wanted: Requests) -> None:
        """Run now where somebody has asked for it; what was asked for is forgotten."""
        if waiting := wanted.waiting():
            self.request()
            wanted.remove([one.name for one in waiting])

    def finished(self) -> Outcome | None:
        """The oldest outcome not yet taken, without waiting."""
        try:
            return self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def wait(self, timeout_s: float) -> Outcome:
        """The next outcome.

        Raises
        ------
        TimeoutError
            If none came in ``timeout_s`` seconds.
        """
        try:
            return self._outcomes.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"the fine-tune did not end within {timeout_s:.0f} s") from None

    def close(self) -> None:
        """Let a run under way end, then stop the worker; idempotent."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _on_start(self, _event: JobSubmissionEvent) -> None:
        with self._lock:
            self._running = True

    def _on_end(self, event: JobExecutionEvent) -> None:
        error = None if event.exception is None else f"{event.exception!r}\n{event.traceback}"
        self._ended(Outcome(value=event.retval, error=error))

    def _ended(self, outcome: Outcome) -> None:
        self._outcomes.put(outcome)
        with self._lock:
            again, self._again, self._running = self._again, False, False
        if again:
            self._scheduler.modify_job(_JOB, next_run_time=datetime.now(UTC))


class _Worker(ProcessPoolExecutor):  # type: ignore[misc] # it has no types
    """The process of the job. If it is killed that is told, and the next run gets another.

    APScheduler does the latter, but tells nobody that the job has ended: it only logs that.
    """

    def __init__(self, told: Callable[[Outcome], None]) -> None:
        spawn = multiprocessing.get_context("spawn")
        own = {"mp_context": spawn, "initializer": die_with_parent}
        super().__init__(max_workers=1, pool_kwargs=own)
        self._told = told

    def _run_job_error(self, job_id: str, exc: BaseException, traceback: object = None) -> None:
        super()._run_job_error(job_id, exc, traceback)
        error = f"its process was killed, by a lack of memory or by somebody: {exc}"
        self._told(Outcome(value=None, error=error))


def die_with_parent() -> None:
    """Ask the kernel to end this worker when its parent dies, even by SIGKILL (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # An interrupt at the terminal reaches the whole group, and so does what a supervisor sends it:
    # the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
