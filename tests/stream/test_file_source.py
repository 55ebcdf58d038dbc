import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream import lines, parts
from stream.batch import Partition, RecordBatch
from stream.errors import FormatError, SourceError
from stream.file_source import FileSource
from stream.formats import FORMATS, open_format


def write(path: Path, *rows: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return path


def drain(source: FileSource, most: int = 3) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    while not source.exhausted:
        batches.extend(source.poll(most, 0.0))
    return batches


def values(batches: Sequence[RecordBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.values]


def jsonl(*paths: Path, **more: object) -> FileSource:
    return FileSource(paths, open_format("jsonl"), **more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "b.jsonl", *(b"b%d" % n for n in range(5)))
    write(tmp_path / "sub/c.ndjson", b"c0", b"", b"c2\r")
    write(tmp_path / ".hidden.jsonl", b"never")
    write(tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfa0\na1"))
    write(tmp_path / "notes.txt", b"never")
    return tmp_path


@pytest.fixture(params=[1, 2, 16_384], autouse=True)
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE", request.param)


EXPECTED = [b"a0", b"a1", b"b0", b"b1", b"b2", b"b3", b"b4", b"c0", b"c2"]


def test_a_folder_is_read_file_by_file(folder: Path) -> None:
    source = jsonl(folder)
    batches = drain(source)
    assert values(batches) == EXPECTED
    names = [batch.partition.topic for batch in batches]
    assert names == ["a.jsonl.gz", "b.jsonl", "b.jsonl", "sub/c.ndjson"]
    assert batches[-1].offsets.tolist() == [0, 2]  # the blank line counts, but is no message
    assert batches[-1].next_offset == 3
    assert not any(batch.history for batch in batches)
    assert source.poll(1, 0.0) == []


@pytest.mark.parametrize("most", [1, 2, 100])
@pytest.mark.parametrize("stop", range(9))
def test_reading_goes_on_at_the_saved_position(folder: Path, most: int, stop: int) -> None:
    first = jsonl(folder)
    positions: dict[Partition, int] = {}
    before: list[bytes] = []
    while len(before) < stop:
        for batch in first.poll(min(most, stop - len(before)), 0.0):
            before.extend(batch.values)
            positions[batch.partition] = batch.next_offset
    first.close()
    again = jsonl(folder, resume=positions)
    assert before + values(drain(again, most)) == EXPECTED


def test_seeking_back_reads_the_same_again(folder: Path) -> None:
    source = jsonl(folder)
    whole = drain(source)
    source.seek({Partition("b.jsonl", 0): 3, Partition("elsewhere", 4): 9})
    assert not source.exhausted
    assert values(drain(source)) == [b"b3", b"b4"]
    source.seek({batch.partition: 0 for batch in whole})
    assert values(drain(source)) == EXPECTED


def test_lag_is_what_is_not_yet_read(folder: Path) -> None:
    source = jsonl(folder)
    assert sum(source.lag().values()) == 10
    source.poll(2, 0.0)
    source.poll(3, 0.0)
    assert source.lag() == {
        Partition("a.jsonl.gz", 0): 0,
        Partition("b.jsonl", 0): 2,
        Partition("sub/c.ndjson", 0): 3,
    }
    drain(source)
    assert sum(source.lag().values()) == 0


def test_pause_holds_and_close_ends(folder: Path) -> None:
    source = jsonl(folder)
    source.pause()
    assert source.poll(5, 0.0) == []
    assert not source.exhausted
    source.resume()
    source.advise({})
    assert len(source.poll(5, 0.0)) == 1
    source.close()
    source.close()
    assert source.exhausted
    assert source.poll(5, 0.0) == []


def test_history_comes_first_and_says_so(tmp_path: Path) -> None:
    events = write(tmp_path / "events.jsonl", b"e")
    before = write(tmp_path / "before.csv", b"user,item,time", b"u,i,5")
    table = open_format("table", {"user": "user", "item": "item", "time": "time"})
    source = jsonl(events, history=[before], history_format=table)
    first, second = drain(source)
    assert (first.history, second.history) == (True, False)
    assert json.loads(first.values[0])["user_id"] == "u"


def test_a_line_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 4)
    monkeypatch.setattr(lines, "LONGEST", 10)
    source = jsonl(write(tmp_path / "a.jsonl", b"1", b"2" * 99, b"3"))
    assert values(drain(source)) == [b"1", b"2" * 10, b"3"]


def test_a_position_behind_the_end_is_refused(folder: Path) -> None:
    source = jsonl(folder / "b.jsonl", resume={Partition("b.jsonl", 0): 6})
    with pytest.raises(SourceError, match=r"b.jsonl\[0\]@6: the file ends at 5"):
        source.poll(1, 0.0)
    with pytest.raises(SourceError, match="at least 0"):
        source.seek({Partition("b.jsonl", 0): -1})


def test_paths_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not exist\. Check"):
        jsonl(tmp_path / "missing")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        jsonl(Path("/dev/null"))
    with pytest.raises(FormatError, match="no file of format jsonl in this folder"):
        jsonl(tmp_path)
    one, two = write(tmp_path / "a/x.jsonl", b"1"), write(tmp_path / "b/x.jsonl", b"2")
    with pytest.raises(SourceError, match=r"both called 'x.jsonl'"):
        jsonl(one, two)
    assert values(drain(jsonl(tmp_path))) == [b"1", b"2"]
    damaged = tmp_path / "z.jsonl.gz"
    damaged.write_bytes(gzip.compress(b"x" * 100)[:-9])
    with pytest.raises(SourceError, match="damaged"):
        drain(jsonl(damaged))


def test_a_folder_that_cannot_be_listed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not for you")

    monkeypatch.setattr(Path, "rglob", refuse)
    with pytest.raises(SourceError, match="cannot be listed: not for you"):
        jsonl(tmp_path)


def test_an_empty_file_is_over_at_once(tmp_path: Path) -> None:
    assert drain(jsonl(write(tmp_path / "a.jsonl"))) == []


def test_parquet_rows_are_events(tmp_path: Path) -> None:
    table = pa.table(
        {
            "type": ["click", "item"],
            "user_id": ["u", None],
            "item_id": ["i", "i"],
            "occurred_at": pa.array([1_000_000, 2_000_000], pa.timestamp("us", tz="UTC")),
            "categories": [None, ["a", "b"]],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    fmt = open_format("parquet")
    found = values(drain(FileSource([tmp_path], fmt)))
    click, item = (json.loads(value) for value in found)
    assert click["occurred_at"] == "1970-01-01T00:00:01.000000Z"
    assert item["categories"] == ["a", "b"]
    assert "user_id" not in item
    assert click["event_id"] != item["event_id"]
    resumed = FileSource([tmp_path], fmt, resume={Partition("e.parquet", 0): 1})
    assert sum(resumed.lag().values()) == 1
    assert values(drain(resumed)) == found[1:]
    named = table.append_column("event_id", pa.array(["e1", "e2"]))
    pq.write_table(named, tmp_path / "e.parquet")
    assert [json.loads(v)["event_id"] for v in values(drain(FileSource([tmp_path], fmt)))] == [
        "e1",
        "e2",
    ]


def test_what_is_no_parquet_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", b"no")
    with pytest.raises(FormatError, match="not readable as Parquet"):
        drain(FileSource([path], open_format("parquet")))
    pq.write_table(pa.table({"type": ["x" * 50] * 9}), path, compression="none")
    damaged = bytearray(path.read_bytes())
    damaged[4:40] = b"\xff" * 36
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match="damaged"):
        drain(FileSource([path], open_format("parquet")))


def test_formats_are_found_by_name() -> None:
    for name in FORMATS:
        assert open_format(name, {"user": "a", "item": "b", "time": "c"} if name == "table" else {})
    with pytest.raises(FormatError, match="no format 'xml'; there are jsonl, table"):
        open_format("xml")
    with pytest.raises(FormatError, match="leave --columns out"):
        open_format("jsonl", {"user": "a"})
