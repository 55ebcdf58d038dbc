"""Whole programs with secrets in their environment: they get in, and show none of them anywhere."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from consumers import doctor
from consumers.local_process import free_ports
from consumers.programs import finetune, publish
from consumers.settings import Settings
from tests.system.authority import Authority
from tests.system.guarded_kafka import KEY_PASSWORD, PASSWORD, GuardedKafka
from tests.system.guarded_qdrant import KEY, READING_KEY, GuardedQdrant

pytestmark = pytest.mark.servers

MESSAGES = 800
PATIENCE_S = 60.0
OTHERS = {
    "drift_webhook": "https://127.0.0.1:1/hook-4716",
    "embedding_key": "embed-for-4717",
    "chat_key": "chat-for-4718",
    "api_keys": "shop read,events,operate serve-for-4719-0123456789",
}
WRONG = "not-the-password-4713"
SECRETS = (PASSWORD, KEY_PASSWORD, KEY, READING_KEY, WRONG, "hook-4716", "embed-for-4717",
           "chat-for-4718", "serve-for-4719")  # fmt: skip
GIVEN_AWAY = {form.encode() for s in SECRETS for form in (s, base64.b64encode(s.encode()).decode())}


@dataclass
class Ended:
    """What a program left."""

    code: int
    output: bytes


class Programs:
    """Runs `goat` in a folder with nothing but these settings; all it says is kept there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._inherited = {k: v for k, v in os.environ.items() if not k.startswith("GOAT_")}

    def start(self, settings: Mapping[str, object], *words: str) -> Callable[[], Ended]:
        """Start it; the function waits for its end."""
        own = {f"GOAT_{name.upper()}": str(value) for name, value in settings.items()}
        self._count += 1
        said = self._folder / f"{self._count}-{words[-1]}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "consumers", *words],
                env=self._inherited | own,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

        def end(stop: bool = False) -> Ended:
            if stop:
                process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()
            return Ended(code, said.read_bytes())

        return end

    def run(self, settings: Mapping[str, object], *words: str) -> Ended:
        """Run it to its end."""
        return self.start(settings, *words)()


def given_away(folder: Path) -> list[str]:
    """Files under a folder in which a secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(f) for f in files if any(secret in f.read_bytes() for secret in GIVEN_AWAY)]


def as_files(settings: dict[str, object], folder: Path) -> dict[str, object]:
    """The same settings with the password of the key in a mounted file."""
    folder.mkdir()
    (folder / "key-password").write_text(f"{KEY_PASSWORD}\n")
    return {**settings, "kafka_key_password_file": folder / "key-password"}


def figures(port: int) -> str:
    """What the program shows to Prometheus, once it has applied the messages."""
    until = time.monotonic() + PATIENCE_S
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:  # it waits in between
        while time.monotonic() < until:
            text = client.get(f"http://127.0.0.1:{port}/metrics").text
            counts = [one for one in text.splitlines() if "messages_applied_total{" in one]
            if sum(float(one.split()[-1]) for one in counts) > MESSAGES * 0.9:
                return text
    pytest.fail("the messages were not applied")


def test_programs_get_in_and_show_no_secret(
    guarded: GuardedKafka,
    vault: GuardedQdrant,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state, said = tmp_path / "state", tmp_path / "said"
    said.mkdir()
    programs = Programs(said)
    common = {
        **OTHERS, **vault.settings(), "topic": "secrets", "state": state, "collection": "secrets",
        "dead_letter_topic": "secrets.dead", "group": "secrets", "snapshot_every_s": 1,
        "log": "json", "log_level": "debug",
    }  # fmt: skip
    password = {**common, **guarded.over_sasl()}
    locked = guarded.locked_client
    certificate = as_files(
        {
            **common,
            **guarded.over_ssl(kafka_certificate=locked.certificate, kafka_key=locked.key),
        },
        tmp_path / "mounted",
    )
    assert programs.run(certificate, "simulate", "--limit", str(MESSAGES)).code == 0
    [port] = free_ports(1)
    stop = programs.start({**password, "metrics_port": port}, "ingest")
    shown = figures(port)
    ended = stop(stop=True)
    assert ended.code == 0, ended.output.decode()
    assert b'"event":"committed"' in ended.output
    reading = Settings.model_validate({**certificate, "kafka_key_password": KEY_PASSWORD})
    assert finetune(reading, once=True) == publish(reading) == 0
    findings = doctor.check(reading)
    assert all(found["ok"] for found in findings.values()), findings
    (said / "in-process.log").write_text(f"{findings} {reading!r} {capsys.readouterr()}")
    assert {p.name for p in state.iterdir()} >= {"status.json", "manifest.jsonl", "graph", "models"}
    assert not [s for s in SECRETS if s in shown]
    assert not given_away(said) + given_away(state)


def test_programs_that_do_not_get_in_end_soon_and_say_why(
    guarded: GuardedKafka, vault: GuardedQdrant, stranger: Authority, tmp_path: Path
) -> None:
    programs = Programs(tmp_path)
    common = {**OTHERS, **vault.settings(), "state": tmp_path / "state"}
    as_json = {"log": "json", "log_level": "debug"}
    wrong = guarded.over_sasl(kafka_password=WRONG)
    cases: list[tuple[str, dict[str, object]]] = [
        ("refuses the user", wrong | as_json),
        ("its certificate is not trusted", guarded.over_sasl(kafka_ca=stranger.file) | as_json),
        ("CERTIFICATE_REQUIRED", guarded.over_ssl(kafka_certificate=None, kafka_key=None)),
        ("speaks TLS, and is asked without", {"kafka": guarded.sasl}),
        (
            "is GOAT_QDRANT_CA the authority",
            guarded.over_sasl() | {"qdrant_api_key": WRONG, "qdrant_ca": stranger.file} | as_json,
        ),
    ]
    started = [programs.start(common | settings, "ingest") for _, settings in cases]
    check = programs.start(common | wrong, "check")
    for (why, settings), end in zip(cases, started, strict=True):
        ended = end()
        told = ended.output.decode()
        assert (ended.code, why in told) == (3, True), told
        if "log" in settings:
            assert all(isinstance(json.loads(line), dict) for line in told.splitlines())
        assert "Traceback" not in told and '"exception"' not in told, told
    checked = check()
    findings = json.loads(checked.output)
    assert [name for name, found in findings.items() if not found["ok"]] == ["kafka"]
    assert checked.code == 1
    assert not given_away(tmp_path)
