"""The program: it refuses what is not safe, and serves over TLS until it is told to stop."""

import os
import shutil
import signal
import ssl
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from consumers import serving
from consumers.cli import app
from consumers.local_process import free_ports
from consumers.settings import Settings
from stream.deadline import Deadline
from tests.consumers.serving_http import KEYS, SECRETS

RUNNER = CliRunner()


def refused(*words: object, **environment: str) -> str:
    """What `goat serve` says when it refuses."""
    result = RUNNER.invoke(app, ["serve", *map(str, words)], env=environment)
    assert result.exit_code == 1, result.output
    return result.output


def test_it_does_not_listen_to_others_without_keys(tmp_path: Path) -> None:
    said = refused("--state", tmp_path, "--host", "0.0.0.0")
    assert "GOAT_API_KEYS" in said and "--unguarded" in said


def test_keys_and_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.pem"
    assert "nothing" in refused("--state", tmp_path, "--api-keys-file", tmp_path / "nothing")
    words = ["--state", tmp_path, "--tls-certificate", missing]
    assert "GOAT_TLS_KEY" in refused(*words)
    assert "not usable for TLS" in refused(*words, "--tls-key", missing)
    assert "2 words" in refused("--state", tmp_path, GOAT_API_KEYS="reader read")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", key, "-out", pem], check=True, capture_output=True)
    return pem, key


def test_it_serves_over_tls_with_nothing_to_serve_yet_and_stops_when_asked(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    [port] = free_ports(1)
    pem, key = certificate
    settings = Settings.model_validate(
        {
            "state": tmp_path / "state", "port": port, "api_keys": KEYS,
            "tls_certificate": pem, "tls_key": key, "qdrant": "http://127.0.0.1:9",
        }
    )  # fmt: skip
    said: list[int | str] = []
    asker = threading.Thread(target=lambda: said.extend(ask(port, pem)))
    asker.start()
    assert serving.serve(settings) == 0
    asker.join()
    assert said == [200, 503, "popular", ["not_restored"], []]
    assert (tmp_path / "state" / "served.jsonl").read_text().count("\n") == 1


def ask(port: int, ca: Path) -> list[int | str]:
    """Ask until somebody answers, and then for the end."""
    base, until = f"https://127.0.0.1:{port}", Deadline.after(60.0)
    headers = {"Authorization": f"Bearer {SECRETS['reader']}"}
    try:
        with httpx.Client(base_url=base, verify=ssl.create_default_context(cafile=ca)) as client:
            while True:
                try:
                    health = client.get("/healthz").status_code
                    break
                except httpx.TransportError:
                    if until.passed:
                        return []
            ready = client.get("/readyz").status_code
            answer = client.post("/v1/candidates", json={"user_id": "u"}, headers=headers).json()
            return [health, ready, answer["rung"], answer["fell"], answer["items"]]
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
