from pathlib import Path

import numpy as np
import pytest

from consumers.errors import VersionMissing
from consumers.versions import Versions
from model.errors import ModelError
from model.recency import plain
from model.state import ModelState


def state(items: int = 3) -> ModelState:
    z = np.eye(items, 4, dtype=np.float32)
    recency = plain(np.ones(2, np.float32) / 2)
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    return ModelState(z, recency, np.ones(items, np.bool_), parameters, trained_upto=9)


def write(versions: Versions, snapshot: int) -> int:
    meta = {"positions": {"t[0]": 5}}
    return versions.write(state(), ("a", "b", "c"), snapshot, meta).number


def test_versions_are_numbered_and_read_back(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "models")
    assert versions.numbers() == []
    assert versions.newest() is None
    assert [write(versions, snapshot) for snapshot in (4, 7)] == [1, 2]
    newest = versions.newest()
    assert newest is not None
    assert (newest.number, newest.snapshot) == (2, 7)
    assert np.array_equal(newest.load().items, state().items)
    assert newest.origin.offsets == {"t[0]": 5}
    assert (newest.origin.model, newest.origin.snapshot) == ("2", "7")


def test_a_snapshot_goes_on_from_what_learned_from_it_or_before(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for snapshot in (4, 7):
        write(versions, snapshot)
    found = [versions.newest(upto) for upto in (3, 4, 6, 7)]
    assert [v and v.number for v in found] == [None, 1, 1, 2]


def test_what_is_half_written_is_no_version(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    write(versions, 1)
    (tmp_path / ".000002.draft").mkdir()
    assert versions.numbers() == [1]
    with pytest.raises(VersionMissing, match="no version 2"):
        versions.open(2)


def test_a_damaged_version_says_so(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    write(versions, 1)
    (tmp_path / "000001" / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="000001"):
        versions.open(1).load()


def test_a_version_is_a_folder_here_and_no_link(tmp_path: Path) -> None:
    versions, other = Versions(tmp_path / "models"), Versions(tmp_path / "other")
    elsewhere = other.open(write(other, 1)).path
    versions.root.mkdir()
    (versions.root / "000001").symlink_to(elsewhere)
    with pytest.raises(ModelError, match=r"000001.*symbolic link"):
        versions.newest()
    assert write(versions, 1) == 2
    versions.prune(kept=1)
    assert versions.numbers() == [2]
    assert other.numbers() == [1], "what a link led to is not ours to remove"


@pytest.mark.parametrize("name", ["1", "0000002", "..", "٣", "000002x", "2.0"])
def test_other_names_are_no_versions(name: str, tmp_path: Path) -> None:
    write(Versions(tmp_path), 1)
    (tmp_path / name).mkdir(exist_ok=True)
    assert Versions(tmp_path).numbers() == [1]


def test_old_versions_are_pruned(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for snapshot in range(4):
        write(versions, snapshot)
    versions.prune(kept=2)
    assert versions.numbers() == [3, 4]
    assert write(versions, 9) == 5
