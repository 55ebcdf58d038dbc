"""A small part of `benchmarks/fuzz.py`, and each fault that it has found."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz_files import FileMutator
from fuzz_messages import Mutator
from fuzz_sources import SourceFuzz
from fuzz_states import FileFuzz, make_drift, make_manifest, make_snapshots, make_version
from fuzz_stream import NOW_US, MessageFuzz, batch_of, may_be_stricter

from consumers.drift import DriftConfig
from consumers.drift_state import DriftState
from consumers.errors import DriftStateCorrupt, ManifestCorrupt
from consumers.manifest import Manifest
from consumers.versions import Versions
from model.errors import VersionCorrupt
from model.version import save
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.errors import FormatError, SnapshotCorrupt, SourceError
from stream.file_source import FileSource
from stream.formats import open_format
from stream.snapshot import SnapshotStore

TABLE = {"user": "u", "item": "i", "time": "t"}


def test_messages_become_events_or_dead_letters_and_nothing_else() -> None:
    fuzz = MessageFuzz(random.Random(20261129))
    tally = fuzz.run(6_000)
    fuzz.check_graph()
    assert (tally.crashes, tally.silent) == (0, 0)
    assert tally.messages == tally.decoded + tally.dead_lettered == 6_000
    assert tally.decoded > 1_500
    assert len(tally.reasons) > 12
    assert fuzz.state.graph.edges.next > 50


def test_a_damaged_state_is_itself_or_an_older_one_or_refused(tmp_path: Path) -> None:
    tally = FileFuzz(random.Random(20261129), tmp_path).run(400)
    assert (tally.file_crashes, tally.file_silent) == (0, 0)
    assert tally.files == tally.accepted_identical + tally.older + tally.refused == 400
    assert tally.refused > 150
    assert tally.accepted_identical > 0
    assert tally.older > 0


def test_a_damaged_file_of_events_is_read_or_refused(tmp_path: Path) -> None:
    tally = SourceFuzz(random.Random(20261129), tmp_path).run(200)
    assert (tally.source_crashes, tally.source_silent) == (0, 0)
    assert 0 < tally.source_refused < tally.sources == 200


def test_the_same_seed_makes_the_same_damage() -> None:
    files = {"a.json": b'{"a":1}', "b.bin": bytes(99)}
    one, other = FileMutator(random.Random(5)), FileMutator(random.Random(5))
    for name in [*files] * 20:
        assert one.mutated(name, files) == other.mutated(name, files)
    assert Mutator(random.Random(5)).messages(50) == Mutator(random.Random(5)).messages(50)


def test_what_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks themselves notice: a codec that swaps fields, a store that takes any bytes."""
    monkeypatch.setattr("fuzz_stream.SHOWN", 0)
    monkeypatch.setattr("fuzz_states.SHOWN", 0)
    lying = MessageFuzz(random.Random(1))
    real = Codec.decode

    def swapped(codec: Codec, batch: object) -> object:
        decoded = real(codec, batch)  # type: ignore[arg-type]
        decoded.events.user[:1] = ["somebody else"]  # type: ignore[index]
        return decoded

    monkeypatch.setattr(Codec, "decode", swapped)
    assert lying.run(500).silent > 0
    fuzz = FileFuzz(random.Random(1), tmp_path)
    monkeypatch.setattr("consumers.drift_state._Saved.digest", lambda saved: saved.sha256)
    assert fuzz.run(400).file_silent > 0


# -- what it has found


def test_an_empty_currency_is_refused_in_a_batch_as_it_is_alone() -> None:
    event = {
        "type": "conversion",
        "event_id": "e",
        "occurred_at": "2026-11-20T19:23:50.820Z",
        "user_id": "u",
        "item_id": "i",
        "refers_to": "c",
        "currency": "",
    }
    codec = Codec(Limits(), ManualClock(NOW_US))
    [reject] = codec.decode(batch_of([json.dumps(event).encode()])).rejects
    assert reject.reason == "invalid_field"
    [kept] = codec.decode(batch_of([json.dumps({**event, "type": "click"}).encode()])).events.user
    assert kept == "u"  # a click has no currency: what it says there is ignored


DEEP = b"[" * 100_000


def read_snapshots(root: Path) -> object:
    return SnapshotStore(root, ManualClock()).load()


@pytest.mark.parametrize(
    ("make", "name", "read", "error"),
    [
        (make_snapshots, "snapshots/0000000003.json", read_snapshots, None),
        (make_version, "000001/version.json", lambda r: Versions(r).newest(), VersionCorrupt),
        (make_manifest, "manifest.jsonl", lambda r: Manifest(r / "manifest.jsonl", ManualClock()),
         ManifestCorrupt),
        (make_drift, "state.json", lambda r: DriftState(r).load(DriftConfig()), DriftStateCorrupt),
    ],
)  # fmt: skip
def test_json_nested_without_end_is_an_error_of_ours(
    tmp_path: Path,
    make: Callable[[Path], object],
    name: str,
    read: Callable[[Path], object],
    error: type[Exception] | None,
) -> None:
    make(tmp_path)
    (tmp_path / name).write_bytes(DEEP + b"\n")
    if error is None:
        store = SnapshotStore(tmp_path, ManualClock())
        found = store.newest()
        assert found is not None
        assert found.number == 2
        assert [d.path.name for d in store.damaged] == ["0000000003.json"]
        for other in (tmp_path / "snapshots").glob("*.json"):
            other.write_bytes(DEEP)
        error = SnapshotCorrupt
    with pytest.raises(error):
        read(tmp_path)


def test_an_older_snapshot_under_a_newer_one_s_name_is_named(tmp_path: Path) -> None:
    make_snapshots(tmp_path)
    folder = tmp_path / "snapshots"
    (folder / "0000000003.json").write_bytes((folder / "0000000001.json").read_bytes())
    store = SnapshotStore(tmp_path, ManualClock())
    found = store.newest()
    assert found is not None
    assert found.number == 2
    assert [d.path.name for d in store.damaged] == ["0000000003.json"]


def test_a_version_that_names_no_snapshot_is_an_error_of_ours(tmp_path: Path) -> None:
    make_version(tmp_path)
    state = Versions(tmp_path).open(1).load()
    save(state, tmp_path / "000002", item_ids=("a", "b", "c"), meta={"snapshot": "none"})
    with pytest.raises(VersionCorrupt, match="names no snapshot"):
        Versions(tmp_path).newest()


@pytest.mark.parametrize("change", [{"version": 4}, {"rounds": {}}, {"format": 1}, {"sha256": ""}])
def test_a_changed_memory_of_drift_is_noticed(tmp_path: Path, change: dict[str, object]) -> None:
    make_drift(tmp_path)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(DriftStateCorrupt, match="checksum"):
        DriftState(tmp_path).load(DriftConfig())


def test_a_memory_of_drift_from_before_checksums_is_read(tmp_path: Path) -> None:
    make_drift(tmp_path)
    path = tmp_path / "state.json"
    saved = json.loads(path.read_bytes())
    del saved["sha256"]
    path.write_text(json.dumps(saved | {"format": 1}))
    assert DriftState(tmp_path).load(DriftConfig()).version == 3


@pytest.mark.parametrize("first", ['"u"x,i,t', "u\rx,i,t", '"u,i,t'])
def test_a_first_line_that_is_no_header_is_an_error_of_ours(tmp_path: Path, first: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(first + "\nu1,i1,5\n", newline="")
    with pytest.raises(FormatError):
        FileSource([path], open_format("table", TABLE)).poll(10, 0.0)


@pytest.mark.parametrize(("kind", "columns"), [("parquet", None), ("table", TABLE)])
def test_strings_of_parquet_that_are_no_text_are_an_error_of_ours(
    tmp_path: Path, kind: str, columns: dict[str, str] | None
) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"u": ["needle"] * 3, "i": ["i"] * 3, "t": np.arange(3)})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"needle", b"nee\xffle"))
    with pytest.raises((SourceError, FormatError)):
        FileSource([path], open_format(kind, columns)).poll(10, 0.0)


def test_a_column_of_parquet_whose_name_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"needle": ["x"]}), path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"needle", b"nee\xffle"))
    with pytest.raises((SourceError, FormatError)):
        FileSource([path], open_format("parquet")).poll(10, 0.0)


@pytest.mark.parametrize("tail", ["", ".0", "e0"])
def test_a_number_beyond_all_length_is_a_dead_letter(tail: str) -> None:
    """Also with a fraction, which the standard library takes for infinity; its neighbours come."""
    said = (
        '{"type":"erase_user","event_id":"e%d","occurred_at":"2026-11-20T00:00:00Z","user_id":"u"'
    )
    numbers = ("1", "9" * 4_301 + tail, "2")
    values = [(said % n + f',"more":{one}}}').encode() for n, one in enumerate(numbers)]
    decoded = Codec(Limits(), ManualClock(NOW_US)).decode(batch_of(values))
    [letter] = decoded.rejects
    assert (letter.row, letter.reason) == (1, "invalid_json")
    assert "number out of range" in letter.detail
    assert len(decoded.events) == 2
    assert may_be_stricter(values[1]) and not may_be_stricter(values[0])
