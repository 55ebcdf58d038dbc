"""What the recommender libraries call their columns: RecBole's atomic files, MMRec's tables.

A column may carry its type, as in ``user_id:token``.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from stream.csv_rows import Layout, header_of, read_csv
from stream.errors import FormatError
from stream.fragments import text
from stream.items import Described, Slice, described
from stream.lines import suffix
from stream.rows import PARQUET_SUFFIXES, Rows, joined, open_parquet, read_parquet

USER: Final = ("user_id", "userID", "user", "uid")
ITEM: Final = ("item_id", "itemID", "item", "iid")
TIME: Final = ("timestamp", "time")
VALUE: Final = ("rating",)
SPLIT: Final = ("x_label", "split")
TITLE: Final = ("movie_title", "title", "name", "keywords", "text")
DESCRIPTION: Final = ("description", "summary")
CATEGORIES: Final = ("class", "genre", "genres", "categories", "category")
_TABS: Final = Layout(separator="\t")


def header(file: Path) -> list[str]:
    """Names of a file's columns, without types."""
    if suffix(file) in PARQUET_SUFFIXES:
        with open_parquet(file) as opened:
            return list(opened.schema_arrow.names)
    return [name.split(":")[0] for name in header_of(file, _TABS)]


def pick(found: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of these names that is there."""
    return next((name for name in names if name in found), None)


def need(file: Path, found: Sequence[str], names: Sequence[str]) -> str:
    """As `pick`.

    Raises
    ------
    FormatError
        If none is there.
    """
    name = pick(found, names)
    if name is None:
        raise FormatError(
            f"{file}: no column called {' or '.join(names)}; it has {', '.join(found)}. "
            "Rename one, or use --format table and --columns"
        )
    return name


def read(file: Path, wanted: Sequence[str]) -> Iterator[Rows]:
    """Rows of a tab-separated or Parquet file."""
    if suffix(file) in PARQUET_SUFFIXES:
        return read_parquet(file, wanted)
    return read_csv(file, wanted, _TABS)


def load_items(file: Path, since: datetime) -> tuple[int, Slice]:
    """Item messages of a file that describes items (see `stream.parts.ColumnsPart`)."""
    found = header(file)
    item = need(file, found, ITEM)
    title, about = pick(found, TITLE), pick(found, DESCRIPTION)
    kinds = pick(found, CATEGORIES)
    wanted = [name for name in (item, title, about, kinds) if name]
    rows = joined(list(read(file, wanted)), wanted)
    categories = None
    if kinds is not None:
        categories = [(line or "").split() for line in text(rows.columns[kinds]).to_pylist()]
    what = Described(
        rows.columns[item],
        since,
        title=None if title is None else rows.columns[title],
        description=None if about is None else rows.columns[about],
        categories=categories,
    )
    return described(rows, what)
