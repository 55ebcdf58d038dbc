"""Tables of items to item messages."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from stream.arrow import Column, pa, pc
from stream.fragments import assemble, digests, numbers, quoted, text
from stream.rows import Rows

Slice = Callable[[slice], Column]


@dataclass(frozen=True, slots=True)
class Described:
    """What a table says of its items.

    Attributes
    ----------
    item : n values of any type that has a text
    since : datetime
        The time given to all: before the first event of the data.
    title, description, campaign : n strings, null for none
    categories : n lists of names, in order; repeated ones are dropped
    """

    item: Column
    since: datetime
    title: Column | None = None
    description: Column | None = None
    campaign: Column | None = None
    categories: Sequence[Sequence[str]] | None = None


def described(rows: Rows, what: Described) -> tuple[int, Slice]:
    """Number of item messages, and what makes those of a slice (see `ColumnsPart`).

    An item that cannot be read or has no id is sent all the same, for the codec to reject.
    """
    item = text(what.item)
    wire: dict[str, Column | str] = {
        "type": '"item"',
        "event_id": digests(_identities(item, rows.content), b"item"),
        "occurred_at": json.dumps(what.since.isoformat().replace("+00:00", "Z")),
        "item_id": quoted(item),
    }
    for name, column in (
        ("title", what.title),
        ("description", what.description),
        ("campaign_id", what.campaign),
    ):
        if column is not None:
            wire[name] = quoted(text(column))
    if what.categories is not None:
        wire["categories"] = pa.array(
            [_list(names) if names else None for names in what.categories], pa.string()
        )
    missing = pc.is_null(item)
    wire["row_number"] = pc.if_else(missing, numbers(rows.number), None)
    messages = assemble(wire, len(rows))
    if rows.unreadable:
        kept: list[bytes] = messages.cast(pa.binary()).to_pylist()
        for at, message in rows.unreadable.items():
            kept[at] = message
        messages = pa.array(kept, pa.binary())
    return len(rows), lambda part: messages[part]


def _identities(item: Column, content: Sequence[bytes]) -> list[bytes]:
    """Item and row: files of two catalogues may hold equal rows about different items."""
    names: list[str | None] = item.to_pylist()
    return [(n or "").encode() + b"\0" + row for n, row in zip(names, content, strict=True)]


def _list(names: Sequence[str]) -> str:
    return json.dumps(list(dict.fromkeys(names)), ensure_ascii=False)
