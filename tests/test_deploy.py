"""The files for Docker, which does not run here: they parse, agree with us, and ask for little."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from consumers import local_kafka, local_qdrant
from consumers.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def test_every_service_depends_on_what_is_there_and_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, need in service.get("depends_on", {}).items():
            assert need == {"condition": "service_healthy"}
            assert "healthcheck" in services[name]


def test_images_are_the_versions_that_are_tested(compose: dict[str, Any]) -> None:
    images = {name: s["image"] for name, s in compose["services"].items() if "build" not in s}
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images.values())
    assert images["kafka"].endswith(f":{local_kafka.VERSION}")
    assert images["qdrant"].endswith(f":v{local_qdrant.VERSION}")


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for s in compose["services"].values() for port in s.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_named_volumes_are_declared(compose: dict[str, Any]) -> None:
    mounts = [m.split(":")[0] for s in compose["services"].values() for m in s.get("volumes", [])]
    assert set(mounts) == set(compose["volumes"])


def test_our_environment_and_command_are_ones_that_we_read(compose: dict[str, Any]) -> None:
    from consumers.cli import app

    names = {f"GOAT_{field.upper()}" for field in Settings.model_fields}
    ours = [s for s in compose["services"].values() if "build" in s]
    assert ours
    for service in ours:
        assert set(service["environment"]) <= names
        done = CliRunner().invoke(app, [service["command"], "--help"])
        assert done.exit_code == 0
    assert set(re.findall(r"GOAT_[A-Z]+", DOCKERFILE)) <= names


def test_the_image_runs_as_nobody_special_and_copies_what_exists() -> None:
    instructions = re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE, re.MULTILINE)
    assert [v for k, v in instructions if k == "FROM"] == [
        "python:3.11-slim AS build",
        "python:3.11-slim",
    ]
    assert [v for k, v in instructions if k == "USER"] == ["goat"]
    assert json.loads(dict(instructions)["ENTRYPOINT"]) == ["goat"]
    for sources in (v.split() for k, v in instructions if k == "COPY" and not v.startswith("--")):
        assert all((ROOT / source).exists() for source in sources[:-1])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        s for k, v in instructions if k == "COPY" and not v.startswith("--") for s in v.split()[:-1]
    }
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_what_the_image_installs_is_held_against_the_hashes_of_make_setup() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pins = re.findall(r"^PINS := (.+)$", makefile, re.MULTILINE)
    [build, *_] = re.findall(r"^RUN ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    installs = [line for line in re.split(r"&&", build) if " install " in line]
    assert ["--require-hashes" in line or pins[0] in line for line in installs] == [True, True]
    [take_uv] = re.findall(r"sed -n '[^']+' constraints-hashed.txt", build)
    assert take_uv in makefile.replace("$$", "$")
    done = subprocess.run(take_uv, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.match(r"uv==[\d.]+ \\\n {4}--hash=sha256:", done.stdout)
    assert done.stdout.count("==") == 1


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text
