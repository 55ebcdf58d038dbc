import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from consumers.errors import ManifestCorrupt, PublishError
from consumers.manifest import Line, Manifest
from consumers.manifest_steps import (
    Begun,
    Collections,
    Dropped,
    Gates,
    Opened,
    Origin,
    Published,
    RolledBack,
    Step,
    Trained,
)
from consumers.publications import Publications
from stream.clock import ManualClock

PAIR = {"version": 1, "items": "items-1", "users": "users-1"}
GATES = Gates(items=10, users=20, probes=5, k=3, overlap=1.0)


def pair(version: int) -> Collections:
    return Collections(version=version, items=f"items-{version}", users=f"users-{version}")


def published(version: int) -> Published:
    return Published(
        collections=pair(version),
        origin=Origin(model=str(version), snapshot="s-1", offsets={"clicks[0]": 7}),
        aliases={"items": f"items-{version}", "users": f"users-{version}"},
        sequence=version,
        gates=GATES,
    )


STEPS: list[Step] = [Opened(generation=1), Begun(collections=pair(1)), published(1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "manifest.jsonl"
    manifest = Manifest(path, ManualClock(1_000_000))
    for step in STEPS:
        manifest.append(step)
    manifest.close()
    return path


def reopened(path: Path) -> Manifest:
    manifest = Manifest(path, ManualClock(2_000_000))
    manifest.close()
    return manifest


def test_lines_come_back_as_written(path: Path) -> None:
    manifest = reopened(path)
    assert [line.body for line in manifest.lines] == STEPS
    assert [line.number for line in manifest.lines] == [1, 2, 3]
    assert {line.at for line in manifest.lines} == {"1970-01-01T00:00:01.000000Z"}
    assert manifest.torn is None


def test_each_line_holds_the_hash_of_the_one_before(path: Path) -> None:
    lines = [json.loads(raw) for raw in path.read_text().splitlines()]
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]


@pytest.mark.parametrize("torn", [b'{"at":"19', b"\0\0\0\0", b"{}"])
def test_a_torn_last_line_is_named_and_cut_off(path: Path, torn: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    manifest = Manifest(path, ManualClock())
    assert len(manifest.lines) == 3
    assert manifest.torn is not None
    assert f"{path}:4: {len(torn)} bytes" in manifest.torn
    assert path.read_bytes() == whole
    manifest.append(Dropped(names=("items-1",)))
    manifest.close()
    assert len(reopened(path).lines) == 4


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_cut_anywhere_loses_only_itself(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    assert [line.body for line in reopened(path).lines] == STEPS[:2]


def alter_version(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"version":1', b'"version":2'), lines[2]]


def remove(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2]]


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], lines[2]]


def repeat(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[2]]


def forge(lines: list[bytes]) -> list[bytes]:
    """A line with a right hash of its own, in place of another."""
    forged = json.loads(lines[1])
    forged["body"]["collections"]["items"] = "mine"
    sealed = Line.model_validate(forged).sealed()
    return [lines[0], json.dumps(sealed.model_dump(mode="json")).encode(), lines[2]]


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (alter_version, ":2: hash is"),
        (remove, ":2: number"),
        (swap, ":1: number"),
        (repeat, ":4: number"),
        (forge, ":3: hash of the line before"),
        (lambda lines: [lines[0], b"nonsense", lines[2]], ":2: not a line"),
        (lambda lines: [b"[]", *lines[1:]], ":1: format"),
        (lambda lines: [lines[0].replace(b'"format":3', b'"format":4')], ":1: format 4"),
        (lambda lines: [b'{"format":1}'], ":1: not a line"),
    ],
)
def test_what_was_altered_is_found(
    path: Path, damage: Callable[[list[bytes]], list[bytes]], match: str
) -> None:
    lines = damage(path.read_bytes().splitlines())
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(ManifestCorrupt, match=match):
        reopened(path)


@pytest.mark.parametrize("name", ["../../items", "/items", "a b", "a\r\nb", "items\n", ""])
@pytest.mark.parametrize("where", ["collection", "alias", "dropped"])
def test_names_that_lead_elsewhere_are_refused(path: Path, where: str, name: str) -> None:
    """They become folders and paths of requests; the chain is of hashes, which anybody can make."""
    bodies = {
        "collection": {**STEPS[1].model_dump(), "collections": {**PAIR, "users": name}},
        "alias": {**STEPS[2].model_dump(), "aliases": {name: "items-1"}},
        "dropped": {"step": "dropped", "names": [name]},
    }
    lines = path.read_bytes().splitlines()
    forged = {**json.loads(lines[1]), "body": bodies[where], "hash": ""}
    canonical = {k: v for k, v in forged.items() if k != "hash"}
    forged["hash"] = sha256(
        json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()
    path.write_bytes(lines[0] + b"\n" + json.dumps(forged).encode() + b"\n")
    with pytest.raises(ManifestCorrupt, match=":2: not a line of a manifest"):
        reopened(path)


# As the program wrote it whose origins named the version, the snapshot and the offsets alone.
FORMAT_1 = (
    '{"at":"1970-01-01T00:00:01.000000Z","body":{"aliases":{"items":"items-1","users":"users-1"},'
    '"collections":{"items":"items-1","users":"users-1","version":1},"gates":{"items":10,"k":3,'
    '"overlap":1.0,"probes":5,"users":20},"origin":{"model":"1","offsets":{"clicks[0]":7},'
    '"snapshot":"s-1"},"sequence":1,"step":"published"},"format":1,'
    '"hash":"HASH","number":1,"previous":"' + "0" * 64 + '"}\n'
)


def test_lines_of_format_1_are_read_and_added_to(tmp_path: Path) -> None:
    told = json.loads(FORMAT_1)
    del told["hash"]
    said = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    path = tmp_path / "manifest.jsonl"
    path.write_text(FORMAT_1.replace("HASH", sha256(said).hexdigest()))
    manifest = Manifest(path, ManualClock())
    assert manifest.lines[0].body == published(1)
    manifest.append(Trained(origin=Origin(model="2", seed=7)))
    manifest.close()
    assert [line.format for line in reopened(path).lines] == [1, 3]
    path.write_bytes(path.read_bytes().replace(b'"snapshot":"s-1"', b'"snapshot":"s-2"', 1))
    with pytest.raises(ManifestCorrupt, match=":1: hash is"):
        reopened(path)


@pytest.fixture
def two(path: Path) -> Iterator[tuple[Manifest, Manifest]]:
    opened = Manifest(path, ManualClock()), Manifest(path, ManualClock())
    yield opened
    for manifest in opened:
        manifest.close()


def test_two_processes_make_one_chain(two: tuple[Manifest, Manifest], path: Path) -> None:
    first, second = two
    first.append(Opened(generation=2))
    second.append(Opened(generation=3))
    first.append(Opened(generation=4))
    assert len(first.lines) == 6
    second.refresh()
    assert second.lines == first.lines == reopened(path).lines


def test_what_another_process_left_torn_is_cut_off_before_appending(
    two: tuple[Manifest, Manifest], path: Path
) -> None:
    first, _ = two
    with path.open("ab") as file:
        file.write(b'{"half')
    first.append(Opened(generation=2))
    assert first.torn is not None
    assert len(reopened(path).lines) == 4


def test_a_file_that_shrinks_is_not_trusted(two: tuple[Manifest, Manifest], path: Path) -> None:
    first, _ = two
    path.write_bytes(b"")
    with pytest.raises(ManifestCorrupt, match="were there before"):
        first.refresh()


def test_a_line_that_cannot_be_synced_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(path, ManualClock())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(PublishError, match="No space left"):
            manifest.append(Opened(generation=9))
    assert path.read_bytes() == before
    manifest.append(Opened(generation=2))
    manifest.close()
    assert len(reopened(path).lines) == 4


def test_half_a_write_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(path, ManualClock())
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda _, data: len(data) - 1)
        with pytest.raises(PublishError, match="bytes written"):
            manifest.append(Opened(generation=9))
    manifest.close()
    assert path.read_bytes() == before


def test_closing_is_idempotent(path: Path) -> None:
    reopened(path).close()


# -- what the lines add up to


def summed(*steps: Step, path: Path) -> Publications:
    manifest = Manifest(path, ManualClock())
    for step in steps:
        manifest.append(step)
    manifest.close()
    state = Publications()
    state.advance(manifest.lines)
    return state


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    state = summed(
        Opened(generation=4),
        Begun(collections=pair(1)),
        published(1),
        Begun(collections=pair(2)),
        published(2),
        Begun(collections=pair(3)),
        published(3),
        Begun(collections=pair(4)),
        path=tmp_path / "m",
    )
    assert state.generation == 4
    assert state.live == pair(3)
    assert state.previous == pair(2)
    assert state.kept == (pair(3), pair(2))
    assert state.leftover == {"items-1", "users-1", "items-4", "users-4"}
    assert state.fills == {1: 1, 2: 1, 3: 1, 4: 1}


def test_a_rollback_swaps(tmp_path: Path) -> None:
    back = RolledBack(collections=pair(1), aliases={}, sequence=1)
    state = summed(published(1), published(2), back, path=tmp_path / "m")
    assert (state.live, state.previous) == (pair(1), pair(2))


def test_a_refill_keeps_the_version_before_for_a_rollback(tmp_path: Path) -> None:
    again = Collections(version=2, items="items-2-2", users="users-2-2")
    refill = published(2).model_copy(update={"collections": again})
    state = summed(published(1), published(2), refill, path=tmp_path / "m")
    assert (state.live, state.previous) == (again, pair(1))


def test_what_is_dropped_is_neither_live_nor_kept(tmp_path: Path) -> None:
    steps: list[Step] = [Begun(collections=pair(1)), published(1), Begun(collections=pair(2))]
    steps += [published(2), Dropped(names=("items-1", "users-1"))]
    state = summed(*steps, path=tmp_path / "m")
    assert (state.live, state.previous, state.leftover) == (pair(2), None, set())
    state = summed(Dropped(names=("items-2",)), path=tmp_path / "m")
    assert state.live is None
