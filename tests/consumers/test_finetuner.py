"""Versions over real snapshots: what they say of themselves, and when all is learned anew."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.cli import app
from consumers.versions import Versions


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Five versions from the simulator, every second of the later ones learned anew."""
    state = tmp_path_factory.mktemp("state")
    arguments = ["run", "--limit", "6000", "--finetune-every", "1000", "--retrain-every", "2"]
    model = json.dumps({"dim": 8, "context": 8, "first_epochs": 1})
    ended = CliRunner().invoke(
        app, [*arguments, "--state", str(state), "--model", model, "--quiet"]
    )
    assert ended.exit_code == 0, ended.output
    return Versions(Path(state) / "models")


def test_every_second_version_is_learned_anew(versions: Versions) -> None:
    metas = [versions.open(number).meta for number in versions.numbers()]
    numbers = versions.numbers()
    assert len(numbers) > 2
    since = [meta["since_anew"] for meta in metas]
    assert since == [(number - 1) % 2 for number in numbers]
    for meta in metas:
        report = meta["report"]
        assert isinstance(report, dict)
        if meta["since_anew"] == 0:
            assert report["replayed"] == 0
        assert list(report["alignment"]) == ["text"]
        for one in report["alignment"].values():
            assert 0 <= one["gap"]["observed"] <= one["gap"]["bound"]
            assert one["gap"]["wasserstein_low"] <= one["gap"]["wasserstein"]
        if meta["base"] is not None:
            assert report["turn"]["residual"] <= report["turn"]["moved"] + 1e-6


def test_a_version_that_knows_all_is_not_learned_again(versions: Versions) -> None:
    before = versions.numbers()
    runner = CliRunner()
    told = ["finetune", "--once", "--state", str(versions.root.parent)]
    first = runner.invoke(app, told)
    second = runner.invoke(app, told)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert first.output == second.output
    assert len(versions.numbers()) <= len(before) + 1


def test_a_version_names_the_embedder_and_a_state_keeps_to_it(tmp_path: Path) -> None:
    state, runner = tmp_path / "state", CliRunner()
    model = json.dumps({"dim": 8, "context": 8, "first_epochs": 1})
    told = ["run", "--limit", "1500", "--state", str(state), "--model", model, "--quiet"]
    first = runner.invoke(app, [*told, "--embedder", "given"])
    assert first.exit_code == 0, first.output
    versions = Versions(state / "models")
    meta = versions.open(versions.numbers()[-1]).meta
    assert meta["embedder"] == "given"
    features = meta["features"]
    assert isinstance(features, dict)
    assert features["text"]["items"] > 0
    assert features["text"]["dim"] > 0
    length = str(features["text"]["dim"])
    names = {"GOAT_EMBEDDING_URL": "http://127.0.0.1:9", "GOAT_TEXT_DIM": length}
    again = runner.invoke(
        app,
        [*told, "--embedder", "endpoint"],
        env={**names, "GOAT_EMBEDDING_MODEL": "another"},
    )
    assert again.exit_code == 1
    assert "of the embedder given, not of another" in again.output
