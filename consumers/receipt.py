"""The receipt of an erasure: every place with before and after; who was meant is told by a hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumers.finding import Search
from stream.segments import replace_file, sync_folder

FORMAT: Final = 1
FOLDER: Final = "receipts"


@dataclass(frozen=True, slots=True)
class Row:
    """One place.

    Attributes
    ----------
    before, after : int or None
        Rows of the user; None where nobody could look.
    checked : how that was found out
    left : what stays there, and why; empty where nothing does
    """

    place: str
    before: int | None
    after: int | None
    checked: str
    left: str = ""


@dataclass(slots=True)
class Receipt:
    """What was done about one user.

    Attributes
    ----------
    who : str
        SHA-256 of the salt and the id, both UTF-8, one after the other: see `digest`.
    salt : str
    at : str
        RFC 3339, when it was written.
    through : how the erasure reached the state
    snapshot : int
        The oldest snapshot kept; the erasure is in it.
    refolded : what was published anew because of it
    search : what was searched in the end
    """

    who: str
    salt: str
    at: str
    through: str
    snapshot: int
    rows: list[Row] = field(default_factory=list[Row])
    topics: Mapping[str, str] = field(default_factory=dict[str, str])
    refolded: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: Sequence[str] = ()
    search: Search = field(default_factory=Search)

    @property
    def clean(self) -> bool:
        """Whether the user is found nowhere any more, and everything could be looked at."""
        return not self.search.hits and all(row.after == 0 for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        told = asdict(self)
        told["search"]["found"] = told["search"].pop("hits")
        return {"format": FORMAT, "clean": self.clean, **told}


def digest(salt: str, user: str) -> str:
    """Who is meant: SHA-256 of salt and id."""
    return hashlib.sha256((salt + user).encode("utf-8", "surrogatepass")).hexdigest()


def write(receipt: Receipt, path: Path) -> None:
    """Write it down, durably; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(receipt.to_json(), indent=1).encode() + b"\n")
    sync_folder(path.parent)


def show(console: Console, receipt: Receipt, path: Path) -> None:
    """Print it as a table."""
    table = Table(title=f"erased: {receipt.who[:16]}…", title_justify="left")
    for name in ("place", "before", "after", "checked by", "what is left"):
        count = name in ("before", "after")
        table.add_column(name, overflow="fold", justify="right" if count else "left")
    for row in receipt.rows:
        counts = ("?" if n is None else str(n) for n in (row.before, row.after))
        table.add_row(row.place, *counts, row.checked, escape(row.left))
    console.print(table)
    for topic, advice in receipt.topics.items():
        console.print(f"Kafka topic {topic}: {advice}", soft_wrap=True, markup=False)
    for note in receipt.notes:
        console.print(note, soft_wrap=True, markup=False)
    search = receipt.search
    console.print(
        f"searched {search.files:,} files ({search.bytes:,} bytes) and {search.points:,} points: "
        + ("nothing found" if receipt.clean else "NOT CLEAN"),
        highlight=False,
    )
    for hit in search.hits:
        console.print(f"  {hit.where}: {hit.rows} ({hit.place})", markup=False, highlight=False)
    console.print(f"receipt: {path}", soft_wrap=True, markup=False, highlight=False)
