"""What we stand on: pinned with hashes, asked after holes, listed."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).resolve().parent.parent
AUDIT = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
verdict = cast(Callable[..., tuple[list[str], int]], AUDIT["verdict"])

HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"]}
HELD: Mapping[str, Any] = {"name": "leaky", "version": "2.0", "vulns": [HOLE]}
SOUND: Mapping[str, Any] = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN: Mapping[str, Any] = {"name": "own", "skip_reason": "not there"}


def test_pins_and_hashes_are_of_the_same_versions() -> None:
    """All but torch has hashes: it comes with and without CUDA, and only one make is on PyPI."""
    plain = (ROOT / "constraints.txt").read_text().splitlines()
    hashed = (ROOT / "constraints-hashed.txt").read_text()
    assert "://" not in hashed
    pins = {line.split(" \\")[0] for line in hashed.splitlines() if "==" in line}
    assert {line for line in plain if not line.startswith("torch==")} == pins, "make constraints"
    blocks = re.findall(
        r"^\S.*==.* \\\n(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", hashed, re.M
    )
    assert len(blocks) == len(pins)


def test_a_hole_fails_the_audit_unless_it_is_accepted_with_a_reason() -> None:
    lines, code = verdict([HELD, SOUND], {})
    assert code == 1
    assert lines[0] == "leaky 2.0: PYSEC-1, mended in 2.1"
    lines, code = verdict([HELD, SOUND], {"CVE-2026-1": "that part is not used"})
    assert code == 0
    assert lines[0].endswith("accepted: that part is not used")


def test_what_was_not_looked_at_is_said() -> None:
    lines, code = verdict([SOUND, UNKNOWN], {})
    assert (code, lines) == (0, ["not in the database: own", "audited 1 of 2 pinned packages"])


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        ("", "Traceback\nNo route to host", "No route to host"),
        ("", "", "exit code 1"),
        (json.dumps({"dependencies": [UNKNOWN]}), "", "it knows none of 1 packages"),
    ],
)
def test_without_a_database_the_audit_says_that_it_was_not_done(
    stdout: str,
    stderr: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreachable(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", unreachable)
    assert cast(Callable[[], int], AUDIT["main"])() == 0
    assert capsys.readouterr().out == (
        f"dependencies were NOT audited: pypi: {said}; osv: {said}\n"
    )


def test_a_found_hole_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1, json.dumps({"dependencies": [HELD]}), "")

    monkeypatch.setattr(subprocess, "run", found)
    assert cast(Callable[[], int], AUDIT["main"])() == 1
    assert "PYSEC-1" in capsys.readouterr().out
