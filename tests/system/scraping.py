"""A real Prometheus with our rules, where one is installed, over programs that run."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from consumers.local_process import free_ports

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATIENCE_S = 60.0


@dataclass
class Prometheus:
    """It, asked over its API."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def up(self) -> list[str]:
        """Targets that have answered."""
        try:
            ready = httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return []
        targets = self.get("targets")["activeTargets"] if ready else []
        return [one["labels"]["instance"] for one in targets if one["health"] == "up"]

    def rules(self) -> dict[str, tuple[str, str]]:
        """Health and state of each alert, once all have been evaluated."""
        groups = self.get("rules")["groups"]
        return {r["name"]: (r["health"], r["state"]) for group in groups for r in group["rules"]}

    def empty(self) -> set[str]:
        """Expressions of the dashboard that have nothing to show."""
        panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
        asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
        return {one for one in asked if not self.get("query", query=one)["result"]}


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str | None]) -> Iterator[Prometheus | None]:
    """Scrape these addresses, each with its key, every second; None where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "alerts.yml")]
    config["scrape_configs"] = [
        {
            "job_name": f"goat-{number}",
            "static_configs": [{"targets": [address]}],
            **({} if key is None else {"authorization": {"credentials": key}}),
        }
        for number, (address, key) in enumerate(targets.items())
    ]
    file, [port] = folder / "prometheus.yml", free_ports(1)
    file.write_text(yaml.safe_dump(config))
    words = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    words.append(f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
    made = Prometheus(f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + PATIENCE_S
        while len(made.up()) < len(targets):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.2)
        yield made
    finally:
        process.terminate()
        process.wait()
