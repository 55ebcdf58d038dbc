import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from stream import csv_rows
from stream.csv_rows import Layout, read_csv
from stream.errors import FormatError, SourceError
from stream.rows import Rows, joined


def read(path: Path, *wanted: str, layout: Layout | None = None) -> Rows:
    return joined(list(read_csv(path, wanted, layout or Layout())))


def file(folder: Path, content: bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_every_row_is_there_once_in_its_place(
    tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "PIECE", piece)
    content = b"\n".join(
        [
            b"user,item,note",
            b"a,1,plain",
            b'b,2,"two\nlines, one row"',
            b"",
            b"c,3",  # too short
            b'd,4,"never closed',
            b"e,5,after",
            b'f,6,"good ""quotes"""',
            b"\xff,7,not text",
            b"g,,empty",
            "ü,8,last".encode(),
        ]
    )
    rows = read(file(tmp_path, content), "user", "item")
    good = [at for at in range(len(rows)) if at not in rows.unreadable]
    users = rows.columns["user"].to_pylist()
    assert [users[at] for at in good] == ["a", "b", "e", "f", "g", "ü"]
    assert rows.columns["item"].to_pylist()[-2:] == [None, "8"]
    bad = list(rows.unreadable.values())
    assert json.loads(bad[0])["detail"] == "got 2 fields, expected 3"
    assert json.loads(bad[1])["row"] == 'd,4,"never closed'
    assert bad[2] == b"\xff,7,not text"
    assert rows.number.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert len(rows) == 9  # nine rows: a blank line is none


def test_the_header_may_carry_types_and_a_mark(tmp_path: Path) -> None:
    path = file(tmp_path, b"\xef\xbb\xbfuser_id:token\titem_id:token\r\n1\t2\r\n")
    rows = read(path, "user_id", "item_id:token")
    assert rows.columns["user_id"].to_pylist() == ["1"]
    assert rows.columns["item_id:token"].to_pylist() == ["2"]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_the_separator_is_guessed(tmp_path: Path, separator: str) -> None:
    path = file(tmp_path, f"a{separator}b\n1{separator}2\n".encode())
    assert read(path, "b").columns["b"].to_pylist() == ["2"]


def test_quotes_are_characters_between_tabs(tmp_path: Path) -> None:
    path = file(tmp_path, b'a\tb\n"x\ty\n')
    assert read(path, "a").columns["a"].to_pylist() == ['"x']


def test_long_separators_and_other_encodings(tmp_path: Path) -> None:
    path = file(tmp_path, "1::Les Misérables::Drama\n".encode("latin-1"))
    layout = Layout("::", ("id", "title", "genre"), quoting=False, encoding="latin-1")
    rows = read(path, "title", layout=layout)
    assert rows.columns["title"].to_pylist() == ["Les Misérables"]
    assert not rows.unreadable


def test_compressed_files_are_read(tmp_path: Path) -> None:
    path = file(tmp_path, gzip.compress(b"a,b\n1,2\n"), "t.csv.gz")
    assert read(path, "a").columns["a"].to_pylist() == ["1"]


def test_a_field_over_the_limit_is_one_bad_row(tmp_path: Path) -> None:
    path = file(tmp_path, b"a,b\n" + b"x" * 200_000 + b",1\n2,3\n")
    rows = read(path, "a")
    assert list(rows.unreadable) == [0]
    assert rows.columns["a"].to_pylist() == [None, "2"]


def test_faults_of_the_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is empty"):
        read(file(tmp_path, b""), "a")
    with pytest.raises(FormatError, match="no column 'c'; it has 'a', 'b'"):
        read(file(tmp_path, b"a,b\n1,2\n"), "c")
    numbers = np.random.default_rng(1).integers(10**9, size=20_000)
    broken = gzip.compress(b"a,b\n" + b"".join(b"%d,1\n" % n for n in numbers))[:-2_000]
    with pytest.raises(SourceError, match="damaged"):
        read(file(tmp_path, broken, "t.csv.gz"), "a")
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path / "missing.csv", "a")
