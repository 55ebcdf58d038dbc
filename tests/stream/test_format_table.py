import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream import rows, table_part
from stream.batch import Kind, Partition
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.errors import FormatError
from stream.file_source import FileSource
from stream.format_table import Table
from stream.parts import Piece

NOW_US = 1_795_000_000_000_000
COLUMNS = {"user": "user", "item": "item", "time": "time"}


def pieces(path: Path, columns: Mapping[str, str], start: int = 0, **more: Any) -> list[Piece]:
    (part,) = Table(columns, **more).parts(path)
    return list(part.read(start))


def messages(path: Path, columns: Mapping[str, str], **more: Any) -> list[dict[str, Any]]:
    return [json.loads(v) for piece in pieces(path, columns, **more) for v in piece.values]


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def rejected(path: Path, columns: Mapping[str, str]) -> list[tuple[int, str, dict[str, Any]]]:
    """Offset, reason and message of what the codec rejects."""
    source = FileSource([path], Table(columns))
    codec = Codec(Limits(), ManualClock(NOW_US))
    found: list[tuple[int, str, dict[str, Any]]] = []
    while not source.exhausted:
        for batch in source.poll(100, 0.0):
            decoded = codec.decode(batch)
            assert len(decoded.events) + len(decoded.rejects) == len(batch)
            for reject in decoded.rejects:
                value = json.loads(batch.values[reject.row])
                found.append((int(batch.offsets[reject.row]), reject.reason, value))
    return found


def test_a_row_becomes_a_click(tmp_path: Path) -> None:
    path = csv(tmp_path, "user,item,time", "u1,i1,881250949")
    (click,) = messages(path, COLUMNS)
    assert len(click.pop("event_id")) == 24
    assert click == {
        "type": "click",
        "occurred_at": "1997-12-04T15:55:49.000000Z",
        "user_id": "u1",
        "item_id": "i1",
    }


def test_csv_parquet_and_jsonl_say_the_same(tmp_path: Path) -> None:
    table = {"user": [1, 2], "item": [3, 4], "time": [10, 20], "value": [4.5, 2.0]}
    (tmp_path / "a").mkdir()
    a = csv(tmp_path / "a", "user,item,time,value", "1,3,10,4.5", "2,4,20,2.0")
    b, c = tmp_path / "b.parquet", tmp_path / "c.jsonl"
    pq.write_table(pa.table(table), b)
    c.write_text("".join(json.dumps(row) + "\n" for row in pa.table(table).to_pylist()))
    columns = {**COLUMNS, "value": "value"}
    said = [messages(path, columns) for path in (a, b, c)]
    for found in said:
        for message in found:
            message.pop("event_id")
    assert said[0] == said[1] == said[2]
    assert said[0][0]["value"] == 4.5


def test_event_names_become_types_and_kinds(tmp_path: Path) -> None:
    names = ["view", "AddToCart", "transaction", "1", "0", "", "ad_click", "teleport"]
    lines = [f"u,i{n},{n},{name},2" for n, name in enumerate(names)]
    path = csv(tmp_path, "user,item,time,event,value", *lines)
    columns = {**COLUMNS, "event": "event", "value": "value"}
    said = messages(path, columns)
    assert [(m["type"], m.get("kind")) for m in said] == [
        ("click", "view"),
        ("click", "add_to_cart"),
        ("click", "purchase"),
        ("click", "click"),
        ("impression", None),
        ("click", "click"),
        ("ad_click", None),
        ("click", "teleport"),
    ]
    assert [n for n, m in enumerate(said) if "value" not in m] == [4, 6]
    assert [(at, reason) for at, reason, _ in rejected(path, columns)] == [(7, "invalid_field")]


def test_bad_rows_are_rejected_with_reason_and_origin(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "user,item,time,value",
        "u,i,5,1",
        ",i,6,1",
        "u,,7,1",
        "u,i,soon,1",
        "u,i,,1",
        f"{'x' * 257},i,8,1",
        "u,i,9,many",
        "u,i,10",
        "u,i,-50,1",
        "u,i,11,1",
    )
    found = rejected(path, {**COLUMNS, "value": "value"})
    # Sorted by time: the row of before 1970 comes first, the untimed stay behind their neighbours.
    assert sorted((reason, m.get("row_number")) for _, reason, m in found) == [
        ("invalid_field", None),
        ("invalid_id", 5),
        ("invalid_time", 3),
        ("missing_field", 1),
        ("missing_field", 2),
        ("missing_field", 4),
        ("time_before_1970", None),
        ("unknown_type", 7),
    ]
    rows_shown = {m.get("row") for _, _, m in found}
    assert {",i,6,1", "u,i,soon,1", "u,i,10"} <= rows_shown


def test_parquet_rows_that_are_bad_show_themselves(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ["u", None], "item": ["i", "i"], "time": [1, 2]}), path)
    ((_, reason, message),) = rejected(path, COLUMNS)
    assert reason == "missing_field"
    assert json.loads(message["row"]) == {"item": "i", "time": 2}


def test_json_rows_that_are_bad_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(
        b'{"user":"u","item":7,"time":3}\n{"user":\n[1]\n\n{"user":"\\ud800","item":1,"time":4}\n'
        b'{"user":{"a":1},"item":true,"time":"5"}\n' + b"[" * 100_000 + b"\n"
    )
    found = rejected(path, COLUMNS)
    assert [reason for _, reason, _ in found] == ["unknown_type"] * 4
    details = " ".join(m["detail"] for _, _, m in found)
    for word in ("not JSON", "not an object", "half a character"):
        assert word in details
    said = [m for m in messages(path, COLUMNS) if m["type"] == "click"]
    assert [(m["user_id"], m["item_id"]) for m in said] == [("u", "7"), ('{"a": 1}', "true")]


def test_equal_rows_are_equal_events_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = messages(csv(tmp_path, "user,item,time", "u,i,5", "u,i,5", "u,j,5"), COLUMNS)
    second = messages(csv(tmp_path / "other", "user,item,time", "u,j,5"), COLUMNS)
    ids = [m["event_id"] for m in first + second]
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.fixture
def shuffled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 rows, 50 items, no order of time, in pieces of 16."""
    monkeypatch.setattr(rows, "PIECE", 16)
    monkeypatch.setattr(table_part, "PIECE", 16)
    monkeypatch.setattr("stream.csv_rows.PIECE", 16)
    rng = np.random.default_rng(3)
    lines = [
        f"u{n},i{rng.integers(50)},{rng.integers(100)},text {rng.integers(2)}" for n in range(200)
    ]
    lines[77] = "broken"
    return csv(tmp_path, "user,item,time,text", *lines)


def ordered(path: Path, to: Path) -> Path:
    """The same table, sorted by time as a person would."""
    header, *lines = path.read_text().splitlines()
    known = 0.0
    keyed: list[tuple[float, int, str]] = []
    for at, line in enumerate(lines):
        fields = line.split(",")
        known = float(fields[2]) if len(fields) > 2 else known
        keyed.append((known, at, line))
    to.mkdir()
    return csv(to, header, *(line for _, _, line in sorted(keyed)))


@pytest.mark.parametrize("kept_bytes", [0, 1_000_000])
@pytest.mark.parametrize("text", [False, True])
def test_order_and_offsets_do_not_depend_on_how_it_is_read(
    shuffled: Path, tmp_path: Path, kept_bytes: int, text: bool
) -> None:
    columns = {**COLUMNS, **({"text": "text"} if text else {})}
    of_sorted = messages(ordered(shuffled, tmp_path / "sorted"), columns, kept_bytes=kept_bytes)
    of_shuffled = messages(shuffled, columns, kept_bytes=kept_bytes)
    for found in (of_sorted, of_shuffled):
        for message in found:
            message.pop("row_number", None)
    assert of_sorted == of_shuffled
    whole = pieces(shuffled, columns)
    offsets = np.concatenate([piece.offsets for piece in whole])
    values = [value for piece in whole for value in piece.values]
    assert offsets.tolist() == list(range(len(values)))
    for start in (0, 1, 15, 16, 17, 100, len(values) - 1, len(values)):
        rest = pieces(shuffled, columns, start, kept_bytes=kept_bytes)
        assert [v for piece in rest for v in piece.values] == values[start:]
        assert [int(at) for piece in rest for at in piece.offsets] == list(
            range(start, len(values))
        )


def test_an_item_is_told_of_before_its_first_event(shuffled: Path) -> None:
    known: set[str] = set()
    texts: set[tuple[str, str]] = set()
    for message in messages(shuffled, {**COLUMNS, "text": "text"}):
        if message["type"] == "item":
            said = (message["item_id"], message["title"])
            assert said not in texts
            texts.add(said)
            known.add(message["item_id"])
        elif message["type"] == "click":
            assert message["item_id"] in known
    assert len(texts) > len(known) > 40


def test_long_texts_are_title_and_description(tmp_path: Path) -> None:
    text = "long " * 300
    path = csv(tmp_path, "user,item,time,text", f"u,i,5,{text}", "u,j,6,", "u,k,soon,x")
    item, first, *rest = messages(path, {**COLUMNS, "text": "text"})
    assert (item["title"], item["description"]) == (text[:1_000], text)
    assert (first["type"], [m["type"] for m in rest]) == ("click", ["click", "click"])


def test_a_table_without_rows_holds_nothing(tmp_path: Path) -> None:
    (part,) = Table({**COLUMNS, "text": "item"}).parts(csv(tmp_path, "user,item,time"))
    assert part.end() == 0
    assert list(part.read(0)) == []


def test_columns_of_a_file_without_header_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n")
    (click,) = messages(path, {"user": "0", "item": "1", "time": "3", "value": "2"})
    assert (click["user_id"], click["item_id"], click["value"]) == ("196", "242", 3)
    path = csv(tmp_path, "0,1,2", "u,i,9")
    assert len(messages(path, {"user": "0", "item": "1", "time": "2"})) == 1


def test_columns_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"time missing\. Give --columns"):
        Table({"user": "u", "item": "i"})
    with pytest.raises(FormatError, match="no role 'price'"):
        Table({**COLUMNS, "price": "p"})
    source = FileSource([csv(tmp_path, "user,item,when", "u,i,1")], Table(COLUMNS))
    with pytest.raises(FormatError, match="no column 'time'; it has 'user', 'item', 'when'"):
        source.poll(1, 0.0)


def test_the_codec_takes_what_a_table_gives(shuffled: Path) -> None:
    source = FileSource([shuffled], Table({**COLUMNS, "text": "text"}))
    (batch,) = source.poll(10, 0.0)
    decoded = Codec(Limits(), ManualClock(NOW_US)).decode(batch)
    assert batch.partition == Partition("t.csv", 0)
    assert not decoded.rejects
    assert set(decoded.events.kind.tolist()) == {Kind.CLICK, Kind.ITEM}
    assert np.all(np.diff(decoded.events.time_us) >= 0)
