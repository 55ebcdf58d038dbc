import os
import subprocess
import textwrap
import threading
from pathlib import Path

import pytest

from consumers.scheduler import Scheduler

PATIENCE_S = 60.0


def test_a_requested_run_happens_in_another_process_and_returns() -> None:
    scheduler = Scheduler(subprocess.getoutput, {"cmd": "echo $PPID"})
    scheduler.start()
    scheduler.request()
    outcome = scheduler.wait(PATIENCE_S)
    scheduler.close()
    assert outcome.error is None
    assert outcome.value is not None
    assert outcome.value.isdigit()
    assert int(outcome.value) != os.getpid()


def test_requests_during_a_run_become_one_run_after_it(tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    command = f"echo run >> {log}; until [ -e {gate} ]; do sleep 0.02; done; cat {log} | wc -l"
    scheduler = Scheduler(subprocess.getoutput, {"cmd": command})
    scheduler.start()
    scheduler.request()
    _until(log.exists)
    for _ in range(5):
        scheduler.request()
    gate.touch()
    runs = [scheduler.wait(PATIENCE_S).value, scheduler.wait(PATIENCE_S).value]
    scheduler.close()
    assert runs == ["1", "2"]
    assert scheduler.finished() is None


def test_an_interval_runs_without_being_asked() -> None:
    scheduler = Scheduler(textwrap.dedent, {"text": "  x"}, interval_s=1)
    scheduler.start()
    assert scheduler.wait(PATIENCE_S).value == "x"
    scheduler.close()


def test_a_job_that_fails_says_how() -> None:
    scheduler = Scheduler(subprocess.getoutput, {"cmd": "true", "encoding": "nonsense"})
    scheduler.start()
    scheduler.request()
    outcome = scheduler.wait(PATIENCE_S)
    scheduler.close()
    assert outcome.value is None
    assert outcome.error is not None
    assert "nonsense" in outcome.error


def test_a_worker_that_is_killed_is_told_and_the_next_run_gets_another(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    killed = f"touch {mark}; kill -9 $PPID; sleep 60"
    scheduler = Scheduler(
        subprocess.getoutput, {"cmd": f"if [ -e {mark} ]; then echo well; else {killed}; fi"}
    )
    scheduler.start()
    scheduler.request()
    outcome = scheduler.wait(PATIENCE_S)
    assert outcome.value is None and outcome.error is not None
    assert "its process was killed" in outcome.error
    scheduler.request()
    assert scheduler.wait(PATIENCE_S).value == "well"
    scheduler.close()


def test_what_is_sent_to_the_whole_group_does_not_end_a_run() -> None:
    scheduler = Scheduler(subprocess.getoutput, {"cmd": "kill -TERM $PPID; echo lived"})
    scheduler.start()
    scheduler.request()
    assert scheduler.wait(PATIENCE_S).value == "lived"
    scheduler.close()


def test_events_fall_due_at_the_stated_count() -> None:
    scheduler = Scheduler(textwrap.dedent, {"text": "x"}, every_events=10)
    assert scheduler.due_in() == 10
    assert not scheduler.note(9)
    assert scheduler.due_in() == 1
    assert scheduler.note(1)
    scheduler.start()
    scheduler.request()
    assert scheduler.due_in() == 10
    scheduler.wait(PATIENCE_S)
    scheduler.close()
    scheduler.close()


def test_without_a_count_events_never_fall_due() -> None:
    scheduler = Scheduler(textwrap.dedent, {"text": "x"})
    assert scheduler.due_in() is None
    assert not scheduler.note(1_000_000)


def test_waiting_in_vain_says_so() -> None:
    with pytest.raises(TimeoutError, match="did not end"):
        Scheduler(textwrap.dedent, {"text": "x"}).wait(0.01)


def _until(condition: object) -> None:
    assert callable(condition)
    pause = threading.Event()
    for _ in range(3_000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("never came true")
