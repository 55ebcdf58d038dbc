"""Whole batches at a time: what is certain to be an interaction, straight into columns.

msgspec reads the structure of each message, NumPy checks the columns. A row is taken here only if
`stream.contract` would certainly take it too and find the same values; every other row is handed
back, to be judged one by one. So this file may be strict about rare spellings, but never lenient.
Where msgspec's reading of JSON is wider than the contract's, `_eligible` says so.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType
from numpy.typing import NDArray

from stream.batch import Kind
from stream.columns import KIND_OF_CLICK, KIND_OF_TYPE, Columns
from stream.envelope import may_be_structured
from stream.events import AMOUNT, ID_CHARACTERS, POSITION, SCHEMA_VERSION, ClickKind, Type
from stream.timestamps import parse_times

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Shorter than the longest integer that the contract's parser takes (4,300 digits), and no
# interaction comes near it.
LONGEST: Final = 4_096
# The contract's parser stops at about 200 levels; msgspec goes on.
DEEPEST: Final = 100

_OTHER: Final = 255
_CODE: Final[Mapping[str | None, int]] = {
    "click": int(Kind.CLICK),
    **{name: int(kind) for name, kind in KIND_OF_TYPE.items() if kind < Kind.ITEM},
}
_CLICK_CODE: Final = {name: int(kind) for name, kind in KIND_OF_CLICK.items()}
_CLICKS: Final = tuple(_CLICK_CODE.values())
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_CURRENCY: Final = re.compile("[A-Z]{3}")


_Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARACTERS)]


class Message(msgspec.Struct, gc=False):
    """The fields of all interactions together; which of them count depends on the type."""

    # A Literal costs no new string for every row; another type or kind is the contract's to refuse.
    type: Type | None = None
    schema_version: int = SCHEMA_VERSION
    event_id: _Id | None = None
    occurred_at: str | None = None
    user_id: _Id | None = None
    item_id: _Id | None = None
    kind: ClickKind = "click"
    impression_id: _Id | None = None
    refers_to: _Id | None = None
    campaign_id: _Id | None = None
    request_id: _Id | None = None
    currency: Annotated[str, Meta(min_length=1)] | None = (
        None  # "" is none here, to the contract not
    )
    position: Annotated[int, Meta(ge=0, le=POSITION)] | None = None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    value: Annotated[float, Meta(ge=-AMOUNT, le=AMOUNT)] | None = None
    specversion: Raw | UnsetType = UNSET  # an envelope, then


class Envelope(msgspec.Struct, gc=False):
    """A structured CloudEvent around a message."""

    specversion: Literal["1.0"]
    id: _Id
    source: Annotated[str, Meta(min_length=1)]
    type: str
    data: Message
    time: str | None = None
    datacontenttype: Literal["application/json"] | None = None


_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError)
_decode = msgspec.json.Decoder(Message).decode
_decode_envelope = msgspec.json.Decoder(Envelope).decode


def _having(*kinds: int) -> Mask:
    table = np.zeros(_OTHER + 1, dtype=np.bool_)
    table[list(kinds)] = True
    return table


# Which kinds have an optional field: on the others it is unknown, hence ignored.
_HAS_IMPRESSION: Final = _having(*_CLICKS, Kind.AD_CLICK)
_HAS_REFERS_TO: Final = _having(Kind.CONVERSION)  # and a currency
_HAS_POSITION: Final = _having(*_CLICKS, Kind.IMPRESSION, Kind.AD_CLICK)  # and a request
_HAS_CAMPAIGN: Final = _having(*_CLICKS, Kind.IMPRESSION, Kind.AD_CLICK, Kind.CONVERSION)
_HAS_PROPENSITY: Final = _having(Kind.IMPRESSION)
_HAS_VALUE: Final = _having(*_CLICKS, Kind.CONVERSION)


def decode_columns(values: Sequence[bytes], latest_us: int, max_bytes: int) -> Columns:
    """Decode the rows that are certain.

    Parameters
    ----------
    values : n messages
    latest_us : int
        Events after this are not taken here, microseconds since the Unix epoch.
    max_bytes : int
        Nor are longer messages.

    Returns
    -------
    Columns
        Some of the rows, ascending; those left out need the contract.
    """
    # A line feed between rows, so that no sequence of bytes spans two of them.
    joined = b"\n".join(values)
    rows = _eligible(values, joined, max_bytes)
    chosen = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
    messages, places = _read(chosen)
    good = _shallow(chosen, joined, places)
    return _check(messages, rows[places], good, latest_us, escaped=_may_hide_controls(joined))


def _eligible(values: Sequence[bytes], joined: bytes, max_bytes: int) -> Rows:
    """Rows on which msgspec and the contract agree what JSON is (but for its depth)."""
    good = np.ones(len(values), dtype=np.bool_)
    longest = min(LONGEST, max_bytes)
    if max(map(len, values), default=0) > longest:
        good &= [len(value) <= longest for value in values]
    if not joined.isascii() and not _is_utf8(joined):
        good &= [_is_utf8(value) for value in values]
    return np.flatnonzero(good)


def _may_hide_controls(joined: bytes) -> bool:
    """Whether a decoded string may hold a control character.

    Written raw it is an error, so it takes an escape, a DEL, or the first of the two bytes that
    spell U+0080 to U+009F.
    """
    return b"\\" in joined or b"\x7f" in joined or b"\xc2" in joined


def _shallow(values: Sequence[bytes], joined: bytes, places: Rows) -> Mask:
    """Which of the messages read, from ``values`` at ``places``, are not nested too deeply."""
    characters = np.frombuffer(joined, dtype=np.uint8)
    opened = sum(np.count_nonzero(characters == ord(bracket)) for bracket in "[{")
    # Each message opened one bracket itself: what is left bounds the depth of any.
    if opened <= len(places) + DEEPEST:
        return np.ones(len(places), dtype=np.bool_)
    brackets = [values[at].count(b"[") + values[at].count(b"{") for at in places.tolist()]
    return np.array(brackets, dtype=np.int64) <= DEEPEST


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read(values: Sequence[bytes]) -> tuple[list[Message], Rows]:
    """Decode what can be decoded, with its place among ``values``."""
    try:
        messages = list(map(_decode, values))
    except _UNREADABLE:
        messages = []
    if len(messages) == len(values) and not _any_envelope(messages):
        return messages, np.arange(len(values))
    read = [_read_one(value) for value in values]
    places = [place for place, message in enumerate(read) if message is not None]
    return [message for message in read if message is not None], np.array(places, dtype=np.int64)


def _any_envelope(messages: Sequence[Message]) -> bool:
    return [message.specversion for message in messages].count(UNSET) != len(messages)


def _read_one(value: bytes) -> Message | None:
    """Decode a plain message or a structured CloudEvent; None where it is not certain."""
    try:
        return _unwrap(_decode_envelope(value)) if may_be_structured(value) else _decode(value)
    except _UNREADABLE:
        return None


def _unwrap(envelope: Envelope) -> Message | None:
    """Give the data what only the envelope says, if the two agree to the letter."""
    data, kind = envelope.data, envelope.type.rsplit(".", 1)[-1]
    if kind not in _CODE:
        return None
    data.event_id = envelope.id if data.event_id is None else data.event_id
    data.type = cast("Type", kind) if data.type is None else data.type
    data.occurred_at = envelope.time if data.occurred_at is None else data.occurred_at
    agreed = (envelope.id, kind, envelope.time or data.occurred_at)
    return data if (data.event_id, data.type, data.occurred_at) == agreed else None


def _check(
    messages: list[Message], rows: Rows, good: Mask, latest_us: int, *, escaped: bool
) -> Columns:
    """Columns of the messages that are ``good`` and turn out to be certain."""
    count = len(messages)
    kind = _kinds(messages)
    good &= kind != _OTHER
    versions = [m.schema_version for m in messages]
    if versions.count(SCHEMA_VERSION) != count:
        good &= [version == SCHEMA_VERSION for version in versions]
    event_id = _required([m.event_id for m in messages], good, escaped)
    user = _required([m.user_id for m in messages], good, escaped)
    item = _required([m.item_id for m in messages], good, escaped)
    texts = [m.occurred_at for m in messages]
    time_us, certain = parse_times([text or "" for text in texts])
    good &= certain & (time_us <= latest_us)

    def strings(column: list[str | None], has: Mask) -> list[str]:
        return _optional(column, has[kind], good, escaped)

    shown = strings([m.impression_id for m in messages], _HAS_IMPRESSION)
    credited = strings([m.refers_to for m in messages], _HAS_REFERS_TO)
    good &= (kind != Kind.CONVERSION) | np.array([text != "" for text in credited], dtype=np.bool_)
    currency = strings([m.currency for m in messages], _HAS_REFERS_TO)
    unknown = {text for text in set(currency) if text and not _CURRENCY.fullmatch(text)}
    if unknown:
        good &= [text not in unknown for text in currency]
    position = _numbers([m.position for m in messages], _HAS_POSITION[kind], -1)
    taken = Columns(
        row=rows,
        kind=kind,
        time_us=time_us,
        event_id=event_id,
        user=user,
        item=item,
        refers_to=[one or other for one, other in zip(shown, credited, strict=True)],
        position=position.astype(np.int32),
        propensity=_numbers([m.propensity for m in messages], _HAS_PROPENSITY[kind], np.nan),
        value=_numbers([m.value for m in messages], _HAS_VALUE[kind], np.nan),
        campaign=strings([m.campaign_id for m in messages], _HAS_CAMPAIGN),
        request=strings([m.request_id for m in messages], _HAS_POSITION),
        currency=currency,
        models={},
    )
    return taken if np.count_nonzero(good) == count else taken.take(np.flatnonzero(good))


def _kinds(messages: Sequence[Message]) -> NDArray[np.uint8]:
    """Kind of each message, `_OTHER` for what is not an interaction."""
    click, other = _CLICK_CODE, _CODE
    return np.array(
        [
            click.get(m.kind, _OTHER) if m.type == "click" else other.get(m.type, _OTHER)
            for m in messages
        ],
        dtype=np.uint8,
    )


def _required(column: list[str | None], good: Mask, escaped: bool) -> list[str]:
    """A column of ids, ``""`` for none; clears ``good`` where there is no valid one."""
    if None in column:
        good &= [text is not None for text in column]
    filled = [text or "" for text in column]
    _clear_unprintable(filled, good, escaped)
    return filled


def _optional(column: list[str | None], has: Mask, good: Mask, escaped: bool) -> list[str]:
    """A column of optional ids, ``""`` for none and where the kind has no such field.

    Clears ``good`` where one is invalid, even where it does not count: that is the contract's
    to say.
    """
    count = len(column)
    if column.count(None) == count:
        return [""] * count
    filled = [text or "" for text in column]
    _clear_unprintable(filled, good, escaped)
    if not has.all():
        for row in np.flatnonzero(~has).tolist():
            filled[row] = ""
    return filled


def _clear_unprintable(column: list[str], good: Mask, escaped: bool) -> None:
    """Clear ``good`` where an id holds a control character."""
    if escaped and not "".join(column).isprintable():
        good &= [_CONTROL.search(text) is None for text in column]


def _numbers(column: list[Any], has: Mask, none: float) -> NDArray[np.float64]:
    """A column of optional numbers, ``none`` for none and where the kind has no such field."""
    if column.count(None) == len(column):
        return np.full(len(column), none)
    filled = np.array([none if number is None else number for number in column], dtype=np.float64)
    filled[~has] = none
    return filled
