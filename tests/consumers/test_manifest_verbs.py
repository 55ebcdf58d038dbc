"""`goat manifest list|show|why` over a small run of the whole system."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consumers import ledger_verbs
from consumers.chronicle import entries
from consumers.errors import ManifestCorrupt, SettingsError, UnknownPoint, VersionMissing
from consumers.manifest import Line, Manifest
from consumers.manifest_steps import (
    Begun,
    Collections,
    Dropped,
    Gates,
    Origin,
    Published,
    RolledBack,
    Step,
    Trained,
)
from consumers.settings import Settings
from consumers.versions import Versions
from stream.clock import ManualClock
from tests.consumers.ledgers import LIMIT, run, settings, told
from tests.copies import copy_of

STDOUT = Path("-")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return run(tmp_path_factory.mktemp("ran") / "state")


@pytest.fixture
def copied(ran: Settings, tmp_path: Path) -> Settings:
    """The same, to be altered."""
    copy_of(ran.state, tmp_path / "state")
    return settings(tmp_path / "state")


def listed(of: Settings, capsys: Any) -> list[dict[str, Any]]:
    assert ledger_verbs.listing(of, json_file=STDOUT) == 0
    found: list[dict[str, Any]] = told(capsys)["versions"]
    return found


def test_every_version_has_a_line(ran: Settings, capsys: Any) -> None:
    found = listed(ran, capsys)
    assert [one["version"] for one in found] == [1, 2, 3]
    assert [one["status"] for one in found] == ["dropped", "kept", "live"]
    assert [one["parent"] for one in found] == ["", "1", "2"]
    assert [one["offsets"] for one in found] == [{"simulator[0]": n} for n in (800, 1_600, 2_400)]
    assert all(one["gates"]["overlap"] >= 0.99 for one in found)
    assert len({one["model_hash"] for one in found}) == 3
    assert ledger_verbs.listing(ran) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, one in zip(lines, found, strict=True):
        assert one["status"] in line
        assert one["model_hash"][:12] in line
        assert f"simulator[0]@{one['offsets']['simulator[0]']}" in line


def test_a_version_is_shown_with_all_that_it_was_made_from(ran: Settings, capsys: Any) -> None:
    assert ledger_verbs.show(ran, 3) == 0
    shown = told(capsys)
    assert shown["ok"]
    assert shown["checks"]["model"].startswith("as recorded: 3 files")
    assert shown["checks"]["snapshot"] == "there"
    [decided] = shown["decisions"]
    assert (decided["verdict"], decided["against"], decided["how"]) == ("publish", 2, "flip")
    assert decided["skew"]["events"] > 100
    origin = shown["origin"]
    assert (origin["parent"], origin["seed"], origin["anew"]) == ("2", 9, False)
    assert origin["config"] == {
        "dim": 8, "context": 8, "half_lives": [4.0], "first_epochs": 1, "epochs": 1,
    }  # fmt: skip
    assert origin["made_with"]["threads"] == "1"
    assert origin["made_with"]["device"] == "cpu"
    assert {"torch", "numpy", "python"} <= origin["made_with"].keys()
    assert origin["edges"] > 0
    assert len(origin["snapshot_hash"]) == len(origin["config_hash"]) == 64


def test_snapshots_of_versions_that_are_kept_are_kept(ran: Settings, capsys: Any) -> None:
    for number in (1, 2, 3):
        ledger_verbs.show(ran, number)
        assert told(capsys)["checks"]["snapshot"] == "there"


def test_a_file_that_was_altered_is_named(copied: Settings, capsys: Any) -> None:
    path = copied.models_dir / "000003" / "items.json"
    path.write_text(path.read_text().replace("item-1", "item-X", 1))
    assert ledger_verbs.show(copied, 3) == 1
    shown = told(capsys)
    assert not shown["ok"]
    assert str(path) in shown["checks"]["model"]
    assert shown["checks"]["model"].startswith("altered")


def test_what_is_pruned_is_no_fault(copied: Settings, capsys: Any) -> None:
    version = Versions(copied.models_dir).open(2)
    shutil.rmtree(version.path)
    (copied.graph_dir / "snapshots" / f"{version.snapshot:010}.json").unlink()
    assert ledger_verbs.show(copied, 2) == 0
    checks = told(capsys)["checks"]
    assert (checks["model"], checks["snapshot"]) == ("pruned", "pruned")


def test_a_snapshot_that_is_another_is_named(copied: Settings, capsys: Any) -> None:
    folder = copied.graph_dir / "snapshots"
    snapshot = Versions(copied.models_dir).open(3).snapshot
    newest = max(folder.glob("*.json"))
    shutil.copy(newest, folder / f"{snapshot:010}.json")
    assert ledger_verbs.show(copied, 3) == 1
    assert told(capsys)["checks"]["snapshot"].startswith("altered")


def test_a_chain_that_is_broken_tells_nothing(copied: Settings) -> None:
    copied.manifest.write_bytes(copied.manifest.read_bytes().replace(b'"seed":8', b'"seed":9', 1))
    with pytest.raises(ManifestCorrupt, match="hash is"):
        ledger_verbs.show(copied, 3)


def test_what_is_not_there_says_so(ran: Settings, tmp_path: Path) -> None:
    with pytest.raises(VersionMissing, match=r"no version 9; there are \[1, 2, 3\]"):
        ledger_verbs.show(ran, 9)
    with pytest.raises(SettingsError, match="no manifest"):
        ledger_verbs.listing(settings(tmp_path / "nowhere"))
    with pytest.raises(UnknownPoint, match="no such item: 'nothing'"):
        ledger_verbs.why(ran, "nothing")


def test_why_an_item_is_where_it_is(ran: Settings, capsys: Any) -> None:
    items = json.loads((ran.models_dir / "000003" / "items.json").read_text())
    found = []
    for item in items[:60:4]:
        assert ledger_verbs.why(ran, item) == 0
        found.append(told(capsys))
    for one in found:
        assert one["version"] == 3
        assert one["filled_from_offsets"] == {"simulator[0]": 2_400}
        assert one["state_offsets"] == {"simulator[0]": LIMIT}
        assert one["written_after"] is not None
        assert one["as_the_state_has_it"] or one["removed"]
        assert one["sequence"] == (one["publisher"] << 32) + one["write"]
        assert (one["edges"] > 0) is (one["last_event"] is not None)
        assert sum(one["edges_by_kind"].values()) == one["edges"]
    fills = [one for one in found if one["written_by"].startswith("the fill")]
    later = [one for one in found if not one["written_by"].startswith("the fill")]
    assert fills
    assert later
    assert max(one["write"] for one in fills) < min(one["write"] for one in later)
    assert {one["vector_of"] for one in found} >= {"events", "text"}


def test_a_person_asks_by_the_command(ran: Settings) -> None:
    words = ["manifest", "list", "--state", str(ran.state)]
    done = subprocess.run(
        [sys.executable, "-m", "consumers", *words], check=True, capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 3


# -- what the lines add up to


def lines(*steps: Step, path: Path) -> list[Line]:
    manifest = Manifest(path, ManualClock())
    for step in steps:
        manifest.append(step)
    manifest.close()
    return manifest.lines


def pair(version: int) -> Collections:
    return Collections(version=version, items=f"i-{version}", users=f"u-{version}")


def published(version: int, origin: Origin | None = None) -> Published:
    gates = Gates(items=1, users=1, probes=1, k=1, overlap=1.0)
    told = origin or Origin(model=str(version))
    return Published(collections=pair(version), origin=told, aliases={}, sequence=1, gates=gates)


def test_a_version_that_was_left_says_so(tmp_path: Path) -> None:
    back = RolledBack(collections=pair(1), aliases={}, sequence=3)
    found = entries(lines(published(1), published(2), back, path=tmp_path / "m"))
    assert [(one.status, one.withdrawn) for one in found] == [("live", False), ("kept", True)]


def test_a_version_that_was_only_learned_is_unpublished(tmp_path: Path) -> None:
    steps: list[Step] = [published(1), Begun(collections=pair(2)), Dropped(names=("i-1", "u-1"))]
    learned = Trained(origin=Origin(model="2", files={"version.json": "ab"}))
    found = entries(lines(*steps, learned, path=tmp_path / "m"))
    assert [one.status for one in found] == ["dropped", "unpublished"]
    assert found[1].published is None
    assert found[1].brief()["model_hash"] == "ab"


def test_what_is_learned_later_of_an_older_line_is_added_to_it(tmp_path: Path) -> None:
    """A line of before hashes were kept is completed by one that was written on the next start."""
    fuller = Origin(model="1", seed=5, files={"version.json": "ab"})
    [one] = entries(lines(published(1), Trained(origin=fuller), path=tmp_path / "m"))
    assert (one.status, one.origin) == ("live", fuller)
    again = [Trained(origin=fuller), published(1)]
    [one] = entries(lines(*again, path=tmp_path / "n"))
    assert (one.status, one.origin) == ("live", fuller)
    [one] = entries(lines(published(1, fuller), Trained(origin=Origin(model="1", files={
        "version.json": "cd"})), path=tmp_path / "o"))  # fmt: skip
    assert one.status == "unpublished", "another version of this number, of a folder begun anew"
