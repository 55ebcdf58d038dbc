"""One message at a time: bytes in, a validated event or the exact reason why not."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stream.batch import Headers
from stream.envelope import is_binary, may_be_structured, unwrap_binary, unwrap_structured
from stream.errors import EventRejected
from stream.events import EVENT, Event, Item

MEBIBYTE: Final = 1 << 20
DETAIL_CHARACTERS: Final = 300
_SHOWN_ERRORS: Final = 3

_BY_TYPE: Final = {
    "json_invalid": "invalid_json",
    "union_tag_invalid": "unknown_type",
    "union_tag_not_found": "unknown_type",
    "dict_type": "not_an_object",
    "missing": "missing_field",
    "finite_number": "not_finite",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "string_too_long": "too_long",
    "too_long": "too_long",
    "unknown_zone": "unknown_zone",
    "contradiction": "contradiction",
}
_TIMES: Final = ("occurred_at", "expires_at", "starts_at", "ends_at")
_BY_FIELD: Final = {
    "schema_version": "unknown_version",
    **dict.fromkeys(_TIMES, "invalid_time"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment may narrow; the rest of the bounds are part of the schema.

    Attributes
    ----------
    max_bytes : int
        Longest message taken.
    max_skew_us : int
        How far `occurred_at` may lie ahead of the clock, microseconds.
    vector_dims : name -> length that an item's vector of that name must have
        Where the length is None, the first vector of that name decides it, for good: the mapping
        is then changed. Vectors of other names may have any length.
    """

    max_bytes: int = MEBIBYTE
    max_skew_us: int = 5 * 60 * 1_000_000
    vector_dims: MutableMapping[str, int | None] = field(default_factory=dict[str, int | None])


def parse(value: bytes, limits: Limits, now_us: int, headers: Headers = ()) -> Event:
    """Decode and validate one message.

    Parameters
    ----------
    value : bytes
        A plain event, a structured CloudEvent, or (with ``ce_`` headers) a binary one.
    now_us : int
        The clock, microseconds since the Unix epoch.

    Raises
    ------
    EventRejected
        With the reason's slug and what was got against what was expected.
    """
    if not value:
        raise EventRejected("empty", "got 0 bytes; send erase_user or item_removed to delete")
    if len(value) > limits.max_bytes:
        raise EventRejected("too_large", f"got {len(value)} bytes, at most {limits.max_bytes}")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise EventRejected("invalid_utf8", f"byte {error.start}: {error.reason}") from error
    if is_binary(headers):
        value = unwrap_binary(value, headers)
    elif may_be_structured(value):
        value = unwrap_structured(value)
    try:
        event = EVENT.validate_json(value)
    except ValidationError as error:
        raise rejection(error.errors(include_url=False, include_context=False)) from error
    _check_against(event, limits, now_us)
    return event


def _check_against(event: Event, limits: Limits, now_us: int) -> None:
    """Check what depends on the clock and on the deployment."""
    latest = now_us + limits.max_skew_us
    if event.time_us > latest:
        # A clock of the far future must not turn this message into an overflow.
        ahead = timedelta(microseconds=event.time_us - now_us)
        raise EventRejected(
            "time_ahead",
            f"occurred_at {event.occurred_at.isoformat()} is {ahead} ahead of the clock, "
            f"at most {timedelta(microseconds=limits.max_skew_us)}",
        )
    if isinstance(event, Item) and event.vectors:
        for name, vector in event.vectors.items():
            if name not in limits.vector_dims:
                continue
            expected = limits.vector_dims[name]
            if expected is None:
                limits.vector_dims[name] = len(vector)
            elif len(vector) != expected:
                raise EventRejected(
                    "wrong_dimension", f"vectors.{name} has {len(vector)} numbers, not {expected}"
                )


def rejection(errors: list[ErrorDetails]) -> EventRejected:
    """Turn pydantic's findings into one reason (the first's) and a bounded explanation."""
    said = "; ".join(_say(error) for error in errors[:_SHOWN_ERRORS])
    if len(errors) > _SHOWN_ERRORS:
        said += f"; and {len(errors) - _SHOWN_ERRORS} more"
    return EventRejected(_slug(errors[0]), said[:DETAIL_CHARACTERS])


def _slug(error: ErrorDetails) -> str:
    # Locations read ("click", "user_id"): the first part is the event's type.
    field = next((part for part in error["loc"][1:] if isinstance(part, str)), "")
    kind = error["type"]
    if kind == "missing":
        return "missing_field"
    if kind == "greater_than_equal" and field in _TIMES:
        return "time_before_1970"
    if field in _BY_FIELD:
        return _BY_FIELD[field]
    if field.endswith("_id") or field == "refers_to":
        return "invalid_id"
    reason = _BY_TYPE.get(kind, "invalid_field")
    if field == "vectors" and reason not in ("not_finite", "out_of_range"):
        return "invalid_vector"
    return reason


def _say(error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    got: Any = error["input"]
    shown = f" (got {got!r:.60})" if isinstance(got, str | int | float) else ""
    if error["type"] == "json_invalid":
        shown = ""
    return f"{path}: {error['msg'][:120]}{shown}" if path else f"{error['msg'][:160]}{shown}"
