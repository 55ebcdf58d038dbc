import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from consumers import doctor, wiring
from consumers.cli import app

RUNNER = CliRunner()


def goat(*words: object) -> Result:
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)


def run(state: Path, limit: int, *more: object) -> dict[str, Any]:
    figures = state / "figures.json"
    words = ["run", "--state", state, "--limit", limit, "--finetune-every", 1_000, "--batch", 200]
    result = goat(*words, "--quiet", "--json", figures, *more)
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = json.loads(figures.read_text())
    return values


def steady(values: dict[str, Any]) -> dict[str, Any]:
    """Figures that depend neither on the machine's speed nor on where a run was stopped.

    Writes are counted since a start, and nothing waits at an end.
    """
    other = {"wall_s", "event_to_searchable_p50_s", "machine", "writes"}
    return {k: v for k, v in values.items() if k not in other}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_gives_the_same_figures(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 3_000)
    run(tmp_path / "parts", 1_600)
    parts = run(tmp_path / "parts", 1_400)
    assert whole["events_in"] == 3_000
    assert whole["balanced"]
    assert whole["version"] == 3
    assert whole["scored_events"] > 100
    assert steady(parts) == steady(whole)


@pytest.mark.slow
def test_an_end_is_shown_to_a_person_and_the_state_serves_other_programs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = ["--state", state, "--limit", 1_500, "--finetune-every", 500]
    result = goat("run", *words)
    assert result.exit_code == 0
    assert "candidate" in result.output
    assert "1,500 messages in" in result.output
    assert "Recall@20" in result.output

    again = goat("finetune", "--once", "--state", state)
    assert (again.exit_code, again.output) == (0, "version 3\n")  # nothing new to learn
    published = goat("publish", "--state", state)
    assert published.exit_code == 0, published.output
    assert "published version 3" in published.output
    back = goat("rollback", "2", "--state", state)
    assert back.exit_code == 0, back.output
    missing = goat("rollback", "1", "--state", state)
    assert missing.exit_code == 1
    findings = json.loads(goat("check", "--state", state).output)
    assert all(finding["ok"] for finding in findings.values())


@pytest.mark.slow
def test_evaluating_what_is_served_publishes_nothing(tmp_path: Path) -> None:
    rows = "".join(f"u{i % 40},i{(i * 7) % 90},{1_600_000_000 + i}\n" for i in range(2_000))
    table = tmp_path / "clicks.csv"
    table.write_text("who,what,when\n" + rows + "u1,,1600009999\n")
    figures = tmp_path / "figures.json"
    result = goat(
        "evaluate", "--served", "--events", table, "--format", "table", "--finetune-every", 1_000,
        "--columns", "user=who,item=what,time=when", "--state", tmp_path / "s", "--json", figures,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    values = json.loads(figures.read_text())
    assert values["events_in"] == 2_001
    assert values["dead_letters"] == 1
    assert sum(values["reasons"].values()) == 1
    assert values["scored_events"] + values["repeats_not_scored"] == 1_000
    assert not (tmp_path / "s" / "index").exists()


def test_simulated_events_can_be_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert goat("simulate", "--limit", 300, "--to", path, "--rate", 1e6).exit_code == 0
    lines = path.read_bytes().splitlines()
    assert len(lines) == 300
    shown = goat("simulate", "--limit", 3, "--to", "-")
    assert shown.output.splitlines()[:3] == [line.decode() for line in lines[:3]]


def test_the_schema_is_json(tmp_path: Path) -> None:
    schema = json.loads(goat("schema").output)
    assert schema["title"] == "goatstream event"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--no-such-flag"], 2, "No such option"),
        (["evaluate", "--events", "/nowhere", "--format", "jsonl"], 1, "/nowhere"),
        (["evaluate", "--events", ".", "--format", "nonsense"], 1, "nonsense"),
        (["evaluate", "--events", ".", "--format", "table", "--columns", "user"], 1, "--columns"),
        (["ingest"], 1, "GOAT_KAFKA"),
        (["ingest", "--kafka", "127.0.0.1:1"], 3, "127.0.0.1:1"),
        (["finetune", "--once"], 1, "no snapshot"),
        (["publish"], 1, "no model version"),
        (["replay", "--events", ".", "--rate", "-1"], 1, "--rate"),
        (["replay", "--events", "."], 1, "GOAT_KAFKA"),
        (["run", "--collection", "../up"], 1, "collection"),
        (["run", "--model", '{"dim": 0}'], 1, "dim"),
        (["run", "--model", "{"], 1, "--model"),
    ],
)
def test_what_cannot_be_done_says_why(
    words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setenv("GOAT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("GOAT_KAFKA", raising=False)
    monkeypatch.delenv("GOAT_QDRANT", raising=False)
    (tmp_path / "x.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    result = goat(*words)
    assert result.exit_code == code, result.output
    assert said in result.output


def test_a_check_names_what_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ASK_TIMEOUT_S", 0.1)
    result = goat("check", "--state", tmp_path, "--kafka", "127.0.0.1:1")
    findings = json.loads(result.output)
    assert result.exit_code == 1
    assert not findings["kafka"]["ok"]
    assert "127.0.0.1:1" in findings["kafka"]["said"]
    assert findings["snapshot"]["ok"]


def test_status_of_servers_that_were_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(goat("local", "status").output) == {"servers": []}
    assert json.loads(goat("local", "down").output) == {"stopped": []}
