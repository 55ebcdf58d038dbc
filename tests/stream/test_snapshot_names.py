"""Names in a manifest are not trusted: a snapshot reads its own files and no others."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stream import manifest as manifests
from stream.errors import SnapshotCorrupt
from stream.segments import Piece, Segments
from stream.snapshot import SnapshotInfo, SnapshotStore
from tests.stream.snapshots import OPTIONS, ORDERING, filled

Open = Callable[..., SnapshotStore]


@pytest.fixture
def snapshot(open_store: Open) -> SnapshotInfo:
    return open_store().commit(filled(6))


def forge(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Alter a manifest and give it the checksum that it then has."""
    whole = json.loads(path.read_bytes())
    change(whole["body"])
    body = json.dumps(whole["body"], sort_keys=True, separators=(",", ":"))
    whole["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(whole))


def pieces(body: dict[str, object]) -> list[dict[str, object]]:
    logs = body["logs"]
    assert isinstance(logs, dict)
    return [piece for log in logs.values() for piece in log]


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/hostname", "..", "", "a/b.arrow", "../segments/{}", "{}\n", 7, None],
)
def test_a_piece_elsewhere_is_refused(
    name: object, snapshot: SnapshotInfo, open_store: Open, tmp_path: Path
) -> None:
    """Even with the right hash, and where it leads back to the right file."""
    [own, *_] = [p.name for p in sorted((tmp_path / "segments").iterdir())]
    (tmp_path / "outside").write_bytes((tmp_path / "segments" / own).read_bytes())
    named = name.format(own) if isinstance(name, str) else name

    def elsewhere(body: dict[str, object]) -> None:
        for piece in pieces(body):
            if piece["file"] == own:
                piece["file"] = named

    forge(snapshot.path, elsewhere)
    store = open_store()
    with pytest.raises(SnapshotCorrupt, match="is no name of a segment"):
        store.load(OPTIONS, ORDERING)
    with pytest.raises(SnapshotCorrupt, match="is no name of a segment"):
        store.newest()


@pytest.mark.parametrize("folder", ["segments", "snapshots"])
def test_links_and_pipes_are_not_read(
    folder: str, snapshot: SnapshotInfo, open_store: Open, tmp_path: Path
) -> None:
    [first, *_] = sorted((tmp_path / folder).iterdir())
    first.rename(tmp_path / "moved")
    first.symlink_to(tmp_path / "moved")
    with pytest.raises(SnapshotCorrupt, match="symbolic link, which is not followed"):
        open_store().load(OPTIONS, ORDERING)
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(SnapshotCorrupt, match="no regular file"):
        open_store().load(OPTIONS, ORDERING)


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    outside = Piece(0, 0, 1, "../outside.arrow", "0" * 64)
    with pytest.raises(SnapshotCorrupt, match="is no name of a segment"):
        Segments(tmp_path / "segments").path(outside)


@pytest.mark.parametrize("number", [2, "../../1", None])
def test_a_manifest_is_of_the_number_that_its_name_says(
    number: object, snapshot: SnapshotInfo
) -> None:
    forge(snapshot.path, lambda body: body.update(number=number))
    with pytest.raises(SnapshotCorrupt, match=r"it is the manifest of snapshot"):
        manifests.read(snapshot.path)
