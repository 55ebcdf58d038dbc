"""A split read from files of MMRec's and RecBole's shapes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.errors import FormatError
from stream.splits import TEST, TRAIN, VALID, read_split


def parquet(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parts_may_be_named_or_numbered(tmp_path: Path) -> None:
    named = parquet(
        tmp_path / "a.parquet",
        userID=[7, 7, 9, 9],
        itemID=[3, 1, 1, 5],
        split=["train", "valid", "train", "test"],
    )
    numbered = tmp_path / "b.inter"
    numbered.write_text("userID\titemID\tx_label\n7\t3\t0\n7\t1\t1\n9\t1\t0\n9\t5\t2\n")
    for file in (named, numbered):
        split = read_split(file)
        assert split.user.tolist() == [0, 0, 1, 1]
        assert split.item.tolist() == [0, 1, 1, 2]
        assert split.part.tolist() == [TRAIN, VALID, TRAIN, TEST]
        assert (split.users, split.items, split.texts) == (2, 3, [])


def test_texts_are_found_beside_the_file_and_items_that_are_only_described_count(
    tmp_path: Path,
) -> None:
    file = parquet(tmp_path / "s.parquet", userID=[1, 1], itemID=[4, 2], split=[0, 1])
    parquet(
        tmp_path / "s_items.parquet",
        itemID=[2, 3, 4, None],
        keywords=["a tent", "a rope", None, "lost"],
        description=["", "thick", "a lamp", ""],
    )
    split = read_split(file)
    assert split.items == 3
    assert split.texts == ["a lamp", "a tent", "a rope. thick"]
    (tmp_path / "else.item").write_text("item_id:token\ttitle:token_seq\n2\tother\n")
    assert read_split(file, tmp_path / "else.item").texts == ["", "other"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"userID": [1], "itemID": [1]}, "no column called x_label or split"),
        ({"userID": [1, None], "itemID": [1, 2], "split": [0, 0]}, "row 1 has no user"),
        ({"userID": [1], "itemID": [1], "split": ["dev"]}, "row 0 is of part 'dev'"),
    ],
)
def test_what_cannot_be_understood_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    with pytest.raises(FormatError, match=said):
        read_split(parquet(tmp_path / "a.parquet", **columns))
