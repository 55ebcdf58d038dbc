"""Every guard is held by a test: without it, that test fails. With it, it is one of the suite."""

import os
import subprocess
import sys

import pytest

from tests.faults.conftest import ROOT
from tests.faults.removals import NOTICED

pytestmark = pytest.mark.skipif("GOAT_LONG" not in os.environ, reason="part of make test-long")


@pytest.mark.parametrize("guard", NOTICED, ids=lambda guard: guard.__name__)
def test_without_it_a_test_fails(guard: object) -> None:
    name, test = guard.__name__, NOTICED[guard]  # type: ignore[attr-defined,index]
    plain = ["-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plain, "-p", "tests.faults.removals", test]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    own["GOAT_REMOVED"] = name
    found = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout[-2_000:]
    assert f"FAILED {test}" in found.stdout
