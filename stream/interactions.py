"""Rows of tables to interaction messages: the mapping that all table formats share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stream.arrow import Column, pa, pc
from stream.event_time import parsed, written
from stream.fragments import assemble, digests, numbers, quoted, text
from stream.rows import Rows

# What tables call things -> (type, kind). Anything else is sent as it is, for the codec to reject.
EVENT_NAMES: Final[Mapping[str, tuple[str, str | None]]] = {
    name: (type_, kind)
    for type_, kind, names in (
        ("click", "view", ("view", "pageview", "page_view", "play", "read")),
        ("click", "click", ("click", "1", "true", "rating", "interaction")),
        ("click", "like", ("like", "favorite", "favourite", "fav", "bookmark")),
        ("click", "add_to_cart", ("add_to_cart", "addtocart", "add-to-cart", "cart")),
        ("click", "purchase", ("purchase", "transaction", "buy", "order", "conversion")),
        ("impression", None, ("impression", "exposure", "show", "0", "false")),
        ("ad_click", None, ("ad_click", "adclick", "ad-click")),
    )
    for name in names
}
_BAD_ID: Final = r"[\x00-\x1f]"
_ID_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Fields:
    """An interaction's fields for n rows, before they are written.

    Attributes
    ----------
    user, item : n values of any type that has a text
    time : n values that `stream.event_time.parsed` takes
    type, kind : n names as they go on the wire, or one for all rows; kind null where it has none
    more : name -> n fragments of further fields, null where a row has none
    salt : sets the event ids of this file apart from another's over equal rows
    """

    user: Column
    item: Column
    time: Column
    type: Column | str = "click"
    kind: Column | str | None = None
    more: Mapping[str, Column | str] | None = None
    salt: bytes = b""


def interactions(rows: Rows, fields: Fields) -> Column:
    """Messages of interactions, string[n].

    A field that is missing or not understood goes out missing or as it is: the codec rejects the
    message with the reason, and the message carries the row it came from.
    """
    user, item = text(fields.user), text(fields.item)
    times_us = parsed(fields.time)
    wire: dict[str, Column | str] = {
        "type": _names(fields.type),
        "event_id": digests(rows.content, fields.salt),
        "occurred_at": pc.coalesce(quoted(written(times_us)), quoted(text(fields.time))),
        "user_id": quoted(user),
        "item_id": quoted(item),
    }
    if fields.kind is not None:
        wire["kind"] = _names(fields.kind)
    wire.update(fields.more or {})
    wire.update(_origin(rows, pc.or_(pc.or_(_bad_id(user), _bad_id(item)), pc.is_null(times_us))))
    return assemble(wire, len(rows))


def events_named(values: Column) -> tuple[Column, Column]:
    """Types and kinds by what a table calls its events; a click where it says nothing."""
    coded = pc.fill_null(text(values), "click").dictionary_encode()
    words: list[str] = coded.dictionary.to_pylist()
    known = [EVENT_NAMES.get(word.strip().lower(), ("click", word)) for word in words]
    types = pa.array([name for name, _ in known], pa.string()).take(coded.indices)
    kinds = pa.array([kind for _, kind in known], pa.string()).take(coded.indices)
    return types, kinds


def amounts(values: Column) -> Column:
    """Fragments of numbers; what is none goes out as a string, for the codec to reject."""
    words = text(values)
    number = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
    good = pc.match_substring_regex(words, number)
    return pc.if_else(good, words, quoted(words))


def only_for(types: Column, names: tuple[str, ...], fragments: Column) -> Column:
    """Fragments of a field that only some types of event have; null for the others."""
    return pc.if_else(pc.is_in(types, value_set=pa.array(names)), fragments, None)


def _names(given: Column | str) -> Any:
    return f'"{given}"' if isinstance(given, str) else quoted(given)


def _bad_id(values: Column) -> Column:
    long = pc.greater(pc.utf8_length(values), _ID_CHARACTERS)
    return pc.fill_null(pc.or_(long, pc.match_substring_regex(values, _BAD_ID)), fill_value=True)


def _origin(rows: Rows, bad: Column) -> dict[str, Column]:
    """What shows where a bad row came from; nothing when all are good."""
    if not pc.any(bad).as_py():
        return {}
    shown = [
        row.decode(errors="backslashreplace") if is_bad else None
        for row, is_bad in zip(rows.content, bad.to_pylist(), strict=True)
    ]
    return {
        "row_number": pc.if_else(bad, numbers(rows.number), None),
        "row": quoted(pa.array(shown, pa.string())),
    }
