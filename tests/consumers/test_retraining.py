"""Requests to learn all anew: answered once, by a version that says so, whatever crashes when."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from consumers import finetuner
from consumers.cli import app
from consumers.decisions import Decided
from consumers.errors import SettingsError
from consumers.finetuner import REQUESTS, finetune_job
from consumers.manifest import FILE, Manifest
from consumers.retraining import Requests, due
from consumers.versions import Version, Versions
from model.config import ModelConfig
from stream.batch import EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State

MODEL = ModelConfig(dim=4, context=4, half_lives=(4,), first_epochs=1, epochs=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state folder with a snapshot of 60 clicks and a version that has learned them."""
    n, graph = 60, Graph()
    batch = EventBatch(
        partition=Partition("events", 0),
        row=np.arange(n),
        offsets=np.arange(n),
        kind=np.full(n, Kind.CLICK, np.uint8),
        time_us=np.arange(n) * 1_000_000,
        event_id=[f"e{i}" for i in range(n)],
        user=[f"u{i % 6}" for i in range(n)],
        item=[f"i{i % 13}" for i in range(n)],
        refers_to=[""] * n,
    )
    graph.apply(batch, np.arange(n))
    store = SnapshotStore(tmp_path / "graph", SystemClock())
    store.commit(State(graph, Orderer()))
    store.close()
    assert learn(tmp_path).number == 1
    return tmp_path


def learn(root: Path, retrain_every: int = 0) -> Version:
    number = finetune_job(
        state=str(root), config=MODEL.model_dump_json(), window_us=str(10**15), seed="0",
        threads="1", retrain_every=str(retrain_every),
    )  # fmt: skip
    return Versions(root / "models").open(int(number))


def replayed(version: Version) -> Sequence[object]:
    report = version.meta["report"]
    assert isinstance(report, dict)
    return [report["fresh"], report["replayed"]]


def test_a_request_is_answered_once_though_nothing_is_new(root: Path) -> None:
    requests = Requests(root / REQUESTS)
    assert learn(root).number == 1
    requests.ask("drift-1", "users have moved")
    requests.ask("drift-1", "asked twice")
    version = learn(root)
    assert version.number == 2
    assert version.meta["anew"] == "drift-1: users have moved"
    assert version.meta["requests"] == {"drift-1": "users have moved"}
    assert version.meta["since_anew"] == 0
    assert replayed(version) == replayed(Versions(root / "models").open(1))
    assert requests.waiting() == []
    assert learn(root).number == 2


def test_a_crash_before_the_file_is_removed_repeats_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(root / REQUESTS)
    requests.ask("drift-1", "so it is")
    with monkeypatch.context() as patch:
        patch.setattr(finetuner, "_forget", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            learn(root)
    assert [one.name for one in requests.waiting()] == ["drift-1"]
    version = learn(root)
    assert version.number == 2
    assert requests.waiting() == []
    requests.ask("drift-2", "again")
    assert learn(root).number == 3


def test_a_damaged_request_is_a_request_and_a_bad_name_is_none(root: Path) -> None:
    requests = Requests(root / REQUESTS)
    requests.ask("torn", "?")
    (root / REQUESTS / "torn.json").write_text("{")
    assert learn(root).meta["requests"] == {"torn": "reason not readable"}
    for name in ("", "../a", "A", "a b", "a" * 65):
        with pytest.raises(SettingsError, match="at most 64"):
            requests.ask(name, "?")


def test_nothing_is_learned_on_from_a_version_that_was_turned_away(root: Path) -> None:
    """The newest that does no harm is gone on from, and kept, however many have come since."""
    versions = Versions(root / "models")
    first = versions.open(1)
    ids = tuple(f"i{i}" for i in range(13))
    for _ in range(6):
        versions.write(first.load(), ids, first.snapshot, {"edges": 60})
    with closing(Manifest(root / FILE, SystemClock())) as manifest:
        for number, verdict in (
            (1, "keep"),
            *((n, "refuse") for n in range(2, 7)),
            (7, "roll_back"),
        ):
            manifest.append(
                Decided.model_validate(
                    {"version": number, "against": 1, "verdict": verdict, "how": "flip", "why": "-",
                     "margin": 0.02, "cold_margin": 0.1, "chance": 0.05}
                )
            )  # fmt: skip
    Requests(root / REQUESTS).ask("drift-1", "users have moved")
    version = learn(root)
    assert (version.number, version.meta["base"], version.meta["rng_seed"]) == (8, 1, 1)
    assert versions.numbers() == [1, 4, 5, 6, 7, 8]


def test_a_person_asks_at_once_or_for_the_next(root: Path) -> None:
    base = ["finetune", "--state", str(root), "--model", MODEL.model_dump_json()]
    asked = CliRunner().invoke(app, [*base, "--anew", "new season"])
    assert (asked.exit_code, asked.output) == (0, "")
    assert [one.reason for one in Requests(root / REQUESTS).waiting()] == ["new season"]
    assert learn(root).meta["anew"] == "person-1: new season"
    done = CliRunner().invoke(app, [*base, "--once", "--anew", "once more"])
    assert done.output == "version 3\n"
    meta = json.loads((root / "models" / "000003" / "version.json").read_bytes())["meta"]
    assert meta["requests"] == {"person-2": "once more"}


def test_a_number_of_finetunes_is_a_reason_too() -> None:
    assert due([], 1, 2) == (False, None)
    assert due([], 2, 2) == (True, "every 2 fine-tunes")
    assert due([], 9, None) == (False, None)
