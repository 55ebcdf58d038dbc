"""The search for a user in files with holes: what is not there is not read, what is is found."""

import mmap
import os
from pathlib import Path

import pytest

from consumers.finding import INDEX, find, written
from consumers.needle import Needle

USER = "user-somebody"
MB = 1 << 20
PAGE = mmap.PAGESIZE


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    """A file of holes with these bytes at these places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for place, content in pieces:
            file.seek(place)
            file.write(content)
        file.truncate(size)
    return path


@pytest.mark.parametrize("code", ["utf-8", "utf-16-le", "utf-16-be"])
def test_it_is_found_wherever_something_was_written(tmp_path: Path, code: str) -> None:
    """At the begin, at the end, and where half a character is of a hole."""
    raw = USER.encode(code)
    # As a database leaves it: the zero in the last or the first character is not written.
    bare = raw.strip(b"\0")
    off = int(raw.startswith(b"\0"))
    places = (
        0,
        8 * MB + off,
        9 * MB - len(bare),
        12 * MB + 3 * PAGE - len(bare),
        16 * MB - len(raw),
    )
    contents = (raw, bare, bare, bare, raw)
    file = sparse(tmp_path / "index" / "page.dat", 16 * MB, *zip(places, contents, strict=True))
    dense = file.read_bytes()
    wanted = Needle(USER).in_bytes(dense)
    assert wanted >= len(places)  # one code reads as the other among zeros
    (hit,) = find(tmp_path, USER).hits
    assert (hit.place, hit.rows) == (INDEX, wanted)


def test_holes_are_not_read(tmp_path: Path) -> None:
    file = sparse(tmp_path / "chunk.mmap", 64 * MB, (20 * MB, b"x"), (40 * MB, b"y"))
    with file.open("rb") as opened:
        spans = written(opened.fileno())
        if os.fstat(opened.fileno()).st_blocks * 512 > MB:
            pytest.skip("this file system keeps no holes")
    assert [stop - start for start, stop in spans] == [3 * PAGE] * 2
    assert [start <= at < stop for (start, stop), at in zip(spans, (20 * MB, 40 * MB), strict=True)]


def test_a_file_of_nothing_holds_nobody(tmp_path: Path) -> None:
    sparse(tmp_path / "index" / "page.dat", 32 * MB)
    found = find(tmp_path, USER)
    assert (found.files, found.bytes, found.hits) == (1, 32 * MB, [])


def test_what_lies_close_together_is_searched_once(tmp_path: Path) -> None:
    pieces = [(n * 2 * PAGE, USER.encode()) for n in range(100)]
    file = sparse(tmp_path / "index" / "page.dat", 300 * PAGE, *pieces)
    with file.open("rb") as opened:
        assert len(written(opened.fileno())) == 1
    assert find(tmp_path, USER).rows() == {INDEX: 100}
