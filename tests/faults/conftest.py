"""Fixtures of the tests of faults."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
sys.path.insert(0, str(ROOT / "benchmarks"))  # the fuzzer is `benchmarks/fuzz.py`'s own


class Nursery:
    """Has programs run and killed; see `tests.faults.nursery`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        command = [sys.executable, "-m", "tests.faults.nursery"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, state: Path, program: str, **more: Any) -> int:
        """How a program ended: 0, or minus the number of the signal that killed it."""
        status, said = self.tried(state, program, **more)
        assert status in (0, -9), said
        return status

    def tried(self, state: Path, program: str, **more: Any) -> tuple[int, str]:
        """How a program ended, and what it said: it may refuse, but not fail."""
        assert self._process.stdin is not None and self._process.stdout is not None
        log = self._logs / "log"
        order = {"mark": None, "occurrence": 0, "limit": None, "messages": None, "nobody": False}
        order |= {"every_s": 1.0, "batch": 30, "back_after": None}
        order |= more
        order |= {"state": str(state), "program": program, "log": str(log)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(json.loads(self._process.stdout.readline()))
        assert status != 1, log.read_text()
        return status, log.read_text()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were injected, by kind, and what was found; from all workers."""
    faults, found = Counter[str](), Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            said = dict(getattr(report, "user_properties", ()) or ())
            if getattr(report, "when", "") == "call":
                faults.update(said.get("faults", {}))
                found.update({kind: len(list_) for kind, list_ in said.get("found", {}).items()})
    if faults:
        told = {"faults": sum(faults.values()), **found, "by_kind": dict(sorted(faults.items()))}
        terminalreporter.write_line(json.dumps(told))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a program lives that is killed and not cut off: in memory, where that can be had."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="goat-faults-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()
