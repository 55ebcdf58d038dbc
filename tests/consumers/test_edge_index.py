"""What only the embedded index promises: one owner, and nothing lost by a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from consumers.edge_index import EdgeIndex
from consumers.errors import IndexLocked, PublishError, ServerUnavailable
from consumers.index import PointBatch, Space

ONE = PointBatch(["x"], np.ones((1, 4), np.float32), [{}])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An index with a collection ``c`` of one point, and an alias of it."""
    root = tmp_path / "index"
    index = EdgeIndex(root)
    index.create("c", Space.ITEMS, 4)
    index.upsert("c", Space.ITEMS, ONE, epoch=1, sequence=1)
    index.point({"alias": "c"})
    index.close()
    index.close()
    return root


def test_one_owner_at_a_time(root: Path) -> None:
    first = EdgeIndex(root)
    with pytest.raises(IndexLocked, match="another goat process") as refused:
        EdgeIndex(root)
    assert isinstance(refused.value, ServerUnavailable), "an exit code of its own"
    first.close()
    EdgeIndex(root).close()


def test_everything_is_there_after_reopening(root: Path) -> None:
    index = EdgeIndex(root)
    assert index.collections() == ("c",)
    assert [c.id for c in index.search("alias", np.ones(4, np.float32), 5)] == ["x"]
    index.close()


def test_half_made_and_half_dropped_collections_are_removed(root: Path) -> None:
    (root / ".new-z").mkdir()
    (root / ".dropped-y").mkdir()
    (root / "aliases.tmp").write_text("{")
    index = EdgeIndex(root)
    assert index.collections() == ("c",)
    assert [p.name for p in root.iterdir() if p.is_dir()] == ["c"]
    assert dict(index.aliases()) == {"alias": "c"}
    index.close()


def test_a_collection_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("linked", ".dropped-linked"):
        (root / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(PublishError, match=f"{name}: a symbolic link is no collection"):
            EdgeIndex(root)
        (root / name).unlink()
    EdgeIndex(root).close()
    assert (tmp_path / "elsewhere").is_dir()


def test_what_was_replaced_is_in_no_file_of_a_collection_written_anew(root: Path) -> None:
    index = EdgeIndex(root)
    ids = [f"user-{i}" for i in range(1_100)]  # more than are read at a time
    index.create("u", Space.USERS, 4)
    some = PointBatch(ids, np.ones((len(ids), 4), np.float32), [{}] * len(ids))
    index.upsert("u", Space.USERS, some, epoch=1, sequence=1)
    index.bury("u", Space.USERS, ["user-1099"], epoch=1, sequence=2)
    index.flush()
    assert files_with(root, b"user-1099"), "the engine keeps what it has replaced"
    index.rewrite("u", Space.USERS)
    assert not files_with(root, b"user-1099")
    assert sorted(index.ids("u")) == sorted(ids[:-1])
    index.close()


def files_with(root: Path, text: bytes) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_writing_anew_that_was_killed_between_two_renames_is_finished(root: Path) -> None:
    (root / "c").rename(root / ".new-c")
    (root / ".dropped-c").mkdir()
    index = EdgeIndex(root)
    assert index.collections() == ("c",)
    assert [c.id for c in index.search("alias", np.ones(4, np.float32), 5)] == ["x"]
    index.close()


def test_an_alias_to_nothing_is_found_at_once(root: Path, tmp_path: Path) -> None:
    (root / "c").rename(tmp_path / "gone")
    for _ in range(2):  # and the lock is given back
        with pytest.raises(PublishError, match="alias"):
            EdgeIndex(root)


def test_aliases_that_read_back_otherwise_are_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeIndex(root)
    monkeypatch.setattr("consumers.edge_index._replace", lambda path, text: None)
    with pytest.raises(PublishError, match="reads back"):
        index.point({"other": "c"})
    index.close()


PROGRAM = """
import os, signal, sys
from pathlib import Path
import numpy as np
from consumers.edge_index import EdgeIndex
from consumers.index import PointBatch, Space
index = EdgeIndex(Path(sys.argv[1]))
for n in range(300):
    batch = PointBatch([f"i{n}"], np.full((1, 4), n, np.float32), [{}])
    index.upsert("c", Space.ITEMS, batch, epoch=1, sequence=n + 2)
index.bury("c", Space.ITEMS, ["i7"], epoch=1, sequence=400)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_no_write(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(root)], check=False)
    assert done.returncode == -signal.SIGKILL
    index = EdgeIndex(root)
    assert index.count("c") == 300
    assert index.last_sequence("c") == 400
    assert dict(index.aliases()) == {"alias": "c"}
    index.close()
