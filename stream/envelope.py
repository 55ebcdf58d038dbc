"""CloudEvents 1.0 around our events: structured JSON, and binary mode in Kafka's headers.

The envelope's ``id``, ``type`` and ``time`` are `event_id`, `type` and `occurred_at`. The data may
leave them out; where it repeats them they must agree, because two readers who trust different
halves of one message would build two graphs. The last dotted part of the envelope's type counts,
so that ``com.example.ads.click`` is a ``click``. ``source`` must be there and is not kept; other
attributes are ignored.

References
----------
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from datetime import datetime
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from stream.batch import Headers
from stream.errors import EventRejected
from stream.events import Event

_MARK: Final = b'"specversion"'
_PREFIX: Final = "ce_"
_VERSION_HEADER: Final = "ce_specversion"
# Our fields by CloudEvents' attribute.
_OURS: Final = {"id": "event_id", "type": "type", "time": "occurred_at"}
TYPE_PREFIX: Final = "goatstream"


def is_binary(headers: Headers) -> bool:
    """Whether the headers say that the value is a CloudEvent's data."""
    return any(name == _VERSION_HEADER for name, _ in headers)


def may_be_structured(value: bytes) -> bool:
    """Whether ``value`` could be an envelope; `unwrap_structured` decides."""
    return _MARK in value


def encode_cloud(event: Event, source: str) -> bytes:
    """Write an event as a structured CloudEvent of ``source`` (a URI reference)."""
    envelope = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": source,
        "type": f"{TYPE_PREFIX}.{event.type}",
        "time": event.occurred_at,
        "datacontenttype": "application/json",
        "data": event.model_dump(mode="json", exclude_none=True),
    }
    return to_json(envelope)


def unwrap_structured(value: bytes) -> bytes:
    """Take the event out of a structured envelope; a message that is none comes back as it is.

    Raises
    ------
    EventRejected
        ``invalid_envelope`` or ``envelope_mismatch``.
    """
    try:
        message: object = from_json(value)
    except ValueError:
        return value  # the contract gives the exact error
    if not isinstance(message, dict) or "specversion" not in message:
        return value
    attributes = cast("dict[str, Any]", message)
    if "data" not in attributes:
        encoded = "data_base64" in attributes
        raise _invalid("data_base64 is not taken, send JSON in data" if encoded else "no data")
    return _merge(attributes, attributes["data"])


def unwrap_binary(value: bytes, headers: Headers) -> bytes:
    """Join a binary CloudEvent's headers to its data.

    Raises
    ------
    EventRejected
        ``invalid_envelope`` or ``envelope_mismatch``.
    """
    attributes: dict[str, Any] = {}
    for name, raw in headers:
        plain = name.lower()
        if plain == "content-type":
            plain = "ce_datacontenttype"
        if plain.startswith(_PREFIX):
            attributes[plain.removeprefix(_PREFIX)] = _text(plain, raw)
    try:
        data: object = from_json(value)
    except ValueError:
        return value
    return _merge(attributes, data)


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"header {name} is not UTF-8 at byte {error.start}") from error


def _merge(attributes: dict[str, Any], data: object) -> bytes:
    """Give the data what only the envelope says, once the two are known to agree."""
    _check_envelope(attributes)
    if not isinstance(data, dict):
        raise _invalid(f"data must be an object, got {type(data).__name__}")
    event = cast("dict[str, Any]", data)
    said: dict[str, Any] = {ours: attributes[a] for a, ours in _OURS.items() if attributes.get(a)}
    said["type"] = str(said["type"]).rsplit(".", 1)[-1]
    for field, outer in said.items():
        inner = event.get(field)
        if inner is not None and inner != outer and not _same_instant(field, inner, outer):
            raise EventRejected(
                "envelope_mismatch", f"{field} is {inner!r:.80} in data, {outer!r:.80} outside"
            )
    # The data's own spelling wins (it is what a reader without the envelope sees).
    kept = {
        field: value for field, value in event.items() if value is not None or field not in said
    }
    return to_json({**said, **kept}, inf_nan_mode="constants")


def _check_envelope(attributes: dict[str, Any]) -> None:
    for name in ("specversion", "id", "source", "type"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise _invalid(f"{name} must be a non-empty string")
    if attributes["specversion"] != "1.0":
        raise _invalid(f"specversion {attributes['specversion']!r:.40}, only '1.0' is known")
    content = attributes.get("datacontenttype") or "application/json"
    media = str(content).split(";", 1)[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise _invalid(f"datacontenttype {media!r:.80}, expected JSON")


def _same_instant(field: str, inner: object, outer: object) -> bool:
    if field != "occurred_at" or not isinstance(inner, str) or not isinstance(outer, str):
        return False
    try:
        one, other = datetime.fromisoformat(inner), datetime.fromisoformat(outer)
    except ValueError:
        return False
    # A time without a zone is no instant; the contract will refuse it if it is the data's.
    return one.tzinfo is not None and other.tzinfo is not None and one == other


def _invalid(detail: str) -> EventRejected:
    return EventRejected("invalid_envelope", f"CloudEvents: {detail}")
