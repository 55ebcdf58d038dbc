"""A slow second reading of a message: the standard library's JSON, then the models of the contract.

The models are asked only whether they take it; the values come from the parsed JSON itself.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any, Final

from pydantic import ValidationError

from stream.batch import EventBatch, Headers, Kind
from stream.codec import Limits
from stream.events import EVENT

Row = tuple[object, ...]
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))"
)
_INTERACTIONS: Final = ("click", "impression", "ad_click", "conversion")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(text: str) -> int:
    """A wire time, which is known to be one, in microseconds since the epoch."""
    found = _TIME.fullmatch(text)
    assert found is not None, text
    *whole, fraction, sign, hours, minutes = found.groups()
    day = datetime(int(whole[0]), int(whole[1]), int(whole[2]), tzinfo=UTC) - _EPOCH
    hour, minute, second = map(int, whole[3:])
    moment = day + timedelta(hours=hour, minutes=minute, seconds=second)
    if sign:
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
        moment += -ahead if sign == "+" else ahead
    us = int((fraction or "0").ljust(6, "0")[:6])
    return (moment.days * 86_400 + moment.seconds) * 1_000_000 + us


def read(value: bytes, limits: Limits, now_us: int, headers: Headers = ()) -> Row | None:
    """What a message says, None where it is none."""
    if not value or len(value) > limits.max_bytes:
        return None
    try:
        plain = _unwrapped(json.loads(value.decode()), headers)
        event = EVENT.validate_json(json.dumps(plain)) if isinstance(plain, dict) else None
    except (ValueError, RecursionError, ValidationError):
        return None
    if event is None or not isinstance(plain, dict):
        return None
    time_us = microseconds(plain["occurred_at"])
    if time_us > now_us + limits.max_skew_us or not _fits(plain, limits):
        return None
    if plain["type"] in _INTERACTIONS:
        return _interaction(plain, time_us)
    kind = {"item": Kind.ITEM, "item_removed": Kind.ITEM_REMOVED, "campaign": Kind.CAMPAIGN}
    code = kind.get(plain["type"], Kind.ERASE_USER)
    return (int(code), time_us, plain["event_id"], event.model_dump_json())


def _fits(plain: dict[str, Any], limits: Limits) -> bool:
    vectors = plain.get("vectors") or {} if plain["type"] == "item" else {}
    return all(len(v) == limits.vector_dims.get(n, len(v)) for n, v in vectors.items())


def _interaction(plain: dict[str, Any], time_us: int) -> Row:
    kind = plain["type"]
    if kind == "click":
        kind = plain.get("kind", "click")
    refers = {"click": "impression_id", "ad_click": "impression_id", "conversion": "refers_to"}

    def of(name: str, *types: str, none: Any = "") -> Any:
        found = plain.get(name) if plain["type"] in types else None
        return none if found is None else found

    position = of("position", "click", "impression", "ad_click", none=-1)
    propensity = of("propensity", "impression", none=None)
    amount = of("value", "click", "conversion", none=None)
    return (
        int(Kind[kind.upper()]),
        time_us,
        plain["event_id"],
        plain["user_id"],
        plain["item_id"],
        of(refers.get(plain["type"], ""), "click", "ad_click", "conversion"),
        position,
        None if propensity is None else float(propensity),
        None if amount is None else float(amount),
        of("campaign_id", *_INTERACTIONS),
        of("request_id", "click", "impression", "ad_click"),
        of("currency", "conversion"),
    )


def _unwrapped(plain: Any, headers: Headers) -> Any:
    """The event within a CloudEvents envelope; None where the two halves disagree."""
    outer: dict[str, Any] = {}
    if any(name == "ce_specversion" for name, _ in headers):
        for name, raw in headers:
            lower = "ce_datacontenttype" if name.lower() == "content-type" else name.lower()
            if lower.startswith("ce_"):
                outer[lower[3:]] = raw.decode()
        data = plain
    elif isinstance(plain, dict) and "specversion" in plain:
        outer, data = plain, plain.get("data")
    else:
        return plain
    needed = [outer.get(name) for name in ("specversion", "id", "source", "type")]
    media = str(outer.get("datacontenttype") or "application/json").split(";", 1)[0].strip().lower()
    if not all(isinstance(n, str) and n for n in needed) or needed[0] != "1.0":
        return None
    if not isinstance(data, dict) or not (media == "application/json" or media.endswith("+json")):
        return None
    event = dict(data)
    said = {"event_id": outer["id"], "type": outer["type"].rsplit(".", 1)[-1]}
    if outer.get("time"):
        said["occurred_at"] = outer["time"]
    for field, value in said.items():
        if event.get(field) is None:
            event[field] = value
        elif event[field] != value and not (field == "occurred_at" and _same(event[field], value)):
            return None
    return event


def _same(one: object, other: object) -> bool:
    try:
        a, b = datetime.fromisoformat(str(one)), datetime.fromisoformat(str(other))
    except ValueError:
        return False
    return a.tzinfo is not None and b.tzinfo is not None and a == b


def rows_of(batch: EventBatch) -> dict[int, Row]:
    """What a decoded batch says, by its rows, in the form of `read`."""
    found: dict[int, Row] = {}
    details = batch.details
    assert details is not None
    plain = zip(
        batch.kind.tolist(), batch.time_us.tolist(), batch.event_id, batch.user, batch.item,
        batch.refers_to, details.position.tolist(),
        [None if isnan(n) else n for n in details.propensity.tolist()],
        [None if isnan(n) else n for n in details.value.tolist()],
        details.campaign, details.request, details.currency, strict=True,
    )  # fmt: skip
    for i, (row, said) in enumerate(zip(batch.row.tolist(), plain, strict=True)):
        model = batch.models.get(i)
        found[row] = said if model is None else (*said[:3], model.model_dump_json())
    return found
