import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stream.batch import Partition
from stream.errors import SinkError
from stream.file_source import FileSource
from stream.formats import open_format
from stream.sink import LETTER_BYTES, DeadLetter, FileDeadLetters, FileSink

HERE = Partition("events", 3)


def letter(value: bytes, offset: int = 0, reason: str = "invalid_json", **more: Any) -> DeadLetter:
    return DeadLetter(HERE, offset, value, reason, "got that", **more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_letter_holds_the_message_the_reason_and_the_origin(tmp_path: Path) -> None:
    sink = FileDeadLetters(tmp_path / "new/letters.jsonl")
    headers = (("trace", b"abc"), ("raw", b"\xff"))
    sink.put([letter("{ü".encode(), 7), letter(b"\xff\x00", 8, "invalid_utf8", headers=headers)])
    sink.put([letter(b"", 9, "empty")])
    sink.flush()
    text, binary, empty = lines(tmp_path / "new/letters.jsonl")
    assert text == {
        "topic": "events",
        "partition": 3,
        "offset": 7,
        "reason": "invalid_json",
        "detail": "got that",
        "bytes": 3,
        "value": "{ü",
    }
    assert base64.b64decode(binary["value_base64"]) == b"\xff\x00"
    assert binary["headers"] == [
        {"name": "trace", "value": "abc"},
        {"name": "raw", "value_base64": "/w=="},
    ]
    assert empty["value"] == ""
    assert sink.counts == {"invalid_json": 1, "invalid_utf8": 1, "empty": 1}
    sink.close()
    sink.close()


def test_a_letter_is_bounded(tmp_path: Path) -> None:
    sink = FileDeadLetters(tmp_path / "letters.jsonl")
    sink.put([letter(b"x" * (LETTER_BYTES + 1), reason="too_large"), letter(b"y" * LETTER_BYTES)])
    sink.close()
    cut, whole = lines(tmp_path / "letters.jsonl")
    assert (len(cut["value"]), cut["bytes"], cut["truncated"]) == (
        LETTER_BYTES,
        LETTER_BYTES + 1,
        True,
    )
    assert "truncated" not in whole


@pytest.mark.parametrize("torn", [b"", b'{"topic": "ev', b"x" * 200_000])
def test_a_new_run_goes_on_where_the_last_ended(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "letters.jsonl"
    first = FileDeadLetters(path)
    first.put([letter(b"1", 1)])
    first.close()
    path.write_bytes(path.read_bytes() + torn)  # killed while writing
    second = FileDeadLetters(path)
    second.put([letter(b"2", 2)])
    second.close()
    assert [line["offset"] for line in lines(path)] == [1, 2]


def test_a_file_that_is_one_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    path.write_bytes(b"{")
    FileDeadLetters(path).close()
    assert path.read_bytes() == b""


def test_messages_survive_a_file(tmp_path: Path) -> None:
    values = [b'{"a":1}', b'{\r\n"a":\n2}', b"not json"]
    sink = FileSink(tmp_path / "out.jsonl")
    sink.send(values[:2], keys=[b"k", None])
    sink.send(values[2:])
    sink.flush()
    sink.close()
    source = FileSource([tmp_path / "out.jsonl"], open_format("jsonl"))
    (batch,) = source.poll(10, 0.0)
    assert batch.values == [b'{"a":1}', b'{  "a": 2}', b"not json"]
    assert json.loads(batch.values[1]) == json.loads(values[1])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out.jsonl")
    with pytest.raises(SinkError, match="empty message"):
        sink.send([b""])
    sink.close()
    with pytest.raises(SinkError, match="closed file"):
        sink.send([b"1"])
    with pytest.raises(SinkError, match="closed file"):
        sink.flush()
    with pytest.raises(SinkError, match="cannot be written"):
        FileSink(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="Name another file"):
        FileDeadLetters(tmp_path / "file" / "below.jsonl")


def test_a_full_disk_is_said() -> None:
    sink = FileSink(Path("/dev/full"))
    sink.send([b"1"])
    with pytest.raises(SinkError, match="Free space"):
        sink.flush()
    with pytest.raises(SinkError, match="Free space"):
        sink.close()
