"""No room, no right to write: said plainly, nothing is lost, and it goes on once that is mended."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.conftest import Nursery
from tests.faults.judged import topic, verdict
from tests.faults.nursery import NOBODY, REFUSED
from tests.faults.test_crashes import SEEDS

ROOM = 3 << 20
Record = Callable[[str, object], None]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other users need root")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "goat", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def written(folder: Path, seed: int) -> tuple[str, int]:
    """A file of the messages, and a third of their number."""
    file = folder / "messages.json"
    file.write_text(json.dumps([[m.decode("latin-1") for m in p] for p in topic(seed)]))
    return str(file), sum(map(len, topic(seed))) // 3


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_full_disk_stops_it_and_room_lets_it_go_on(
    nursery: Nursery, tmp_path: Path, small: Path, seed: int, record_property: Record
) -> None:
    state, (file, third) = small / "state", written(tmp_path, seed)
    state.mkdir()
    # The engine's files are its own: here it is what we write that finds no room.
    (tmp_path / "index").mkdir()
    (state / "index").symlink_to(tmp_path / "index")
    (tmp_path / "notes").touch()  # the test's own
    (state / "notes").symlink_to(tmp_path / "notes")
    assert nursery.run(state, "ingest", messages=file, limit=third) == 0
    assert nursery.run(state, "finetune") == 0
    rng, ballast, stopped = np.random.default_rng(seed), small / "ballast", 0
    for program in ("finetune", "ingest", "ingest", "ingest"):
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        ballast.write_bytes(b"\0" * max(0, free - int(rng.integers(0, 20_000))))
        code, said = nursery.tried(state, program, messages=file)
        assert code in (0, REFUSED) and ("No space left on device" in said) == (code == REFUSED)
        stopped += code == REFUSED
        ballast.unlink()
    assert nursery.run(state, "ingest", messages=file) == 0
    found = verdict(state, seed)
    record_property("faults", {"disk full": stopped})
    record_property("found", vars(found))
    assert not found, vars(found)
    assert stopped


def test_a_state_that_may_not_be_written_is_said_and_left_as_it_is(
    nursery: Nursery, tmp_path: Path, record_property: Record
) -> None:
    state, (file, third) = tmp_path / "state", written(tmp_path, 0)
    state.mkdir()
    assert nursery.run(state, "ingest", messages=file, limit=third) == 0
    assert nursery.run(state, "finetune") == 0
    assert nursery.run(state, "ingest", messages=file, limit=third) == 0
    # Everybody may look, and only one of the folders is closed to who comes now.
    for path in [*tmp_path.parents, tmp_path]:
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    closed = [state / "graph", state / "graph" / "snapshots", state / "graph" / "segments"]
    for path in [state, *state.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    for folder in closed:
        os.chown(folder, 0, 0)
        for path in folder.iterdir():
            os.chown(path, 0, 0)
            path.chmod(0o755 if path.is_dir() else 0o644)
        folder.chmod(0o755)
    before = {p: p.read_bytes() for p in (state / "graph").rglob("*") if p.is_file()}
    code, said = nursery.tried(state, "ingest", messages=file, nobody=True)
    assert code == REFUSED and "Permission denied" in said
    assert {p: p.read_bytes() for p in (state / "graph").rglob("*") if p.is_file()} == before
    assert nursery.run(state, "ingest", messages=file) == 0
    found = verdict(state, 0)
    record_property("faults", {"read-only state": 1})
    record_property("found", vars(found))
    assert not found, vars(found)
