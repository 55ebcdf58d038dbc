import os
import signal
import subprocess
import sys

import pytest

from consumers import lifecycle
from consumers.errors import ServerUnavailable, SettingsError
from consumers.lifecycle import Stop, guarded
from model.errors import ModelError
from stream.errors import SourceError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerUnavailable("no broker"), 3),
        (SettingsError("a against b"), 1),
        (SourceError("gone"), 1),
        (ModelError("shape"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_becomes_a_message_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> int:
        raise error

    assert guarded(program) == code
    said = capsys.readouterr().err
    assert str(error) in said
    assert "Traceback" not in said


def test_a_fault_of_our_own_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: 1 // 0) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_result_is_the_exit_code() -> None:
    assert guarded(lambda: 0) == 0


def test_the_first_signal_only_asks() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_ends_the_process_at_once() -> None:
    program = (
        "import os, signal\n"
        "from consumers.lifecycle import Stop\n"
        "with Stop().listening() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert stop.requested\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == lifecycle.INTERRUPTED
    assert "still here" not in done.stdout


def test_a_request_needs_no_signal() -> None:
    stop = Stop()
    stop.request()
    assert stop.requested
