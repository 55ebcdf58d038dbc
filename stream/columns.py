"""Decoded events as columns: what the columnar path and the one-by-one path both end in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.batch import Details, EventBatch, Kind, RecordBatch
from stream.events import Event

KIND_OF_TYPE: Final[Mapping[str, Kind]] = {
    "impression": Kind.IMPRESSION,
    "ad_click": Kind.AD_CLICK,
    "conversion": Kind.CONVERSION,
    "item": Kind.ITEM,
    "item_removed": Kind.ITEM_REMOVED,
    "campaign": Kind.CAMPAIGN,
    "erase_user": Kind.ERASE_USER,
}
KIND_OF_CLICK: Final[Mapping[str, Kind]] = {
    "view": Kind.VIEW,
    "click": Kind.CLICK,
    "like": Kind.LIKE,
    "add_to_cart": Kind.ADD_TO_CART,
    "purchase": Kind.PURCHASE,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Some rows of a batch, decoded; the fields are those of `EventBatch` and `Details`."""

    row: NDArray[np.int64]
    kind: NDArray[np.uint8]
    time_us: NDArray[np.int64]
    event_id: list[str]
    user: list[str]
    item: list[str]
    refers_to: list[str]
    position: NDArray[np.int32]
    propensity: NDArray[np.float64]
    value: NDArray[np.float64]
    campaign: list[str]
    request: list[str]
    currency: list[str]
    models: Mapping[int, Event]  # by row of the record batch

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: NDArray[np.int64]) -> "Columns":
        """Some of these rows, in the order of ``index``."""
        return _join([self], index)


def kind_of(event: Event) -> Kind:
    """Kind under which an event is stored."""
    return KIND_OF_CLICK[event.kind] if event.type == "click" else KIND_OF_TYPE[event.type]


def from_events(events: Mapping[int, Event]) -> Columns:
    """Columns of validated events, by their row in the record batch."""
    kinds = [kind_of(event) for event in events.values()]
    pairs = zip(events.items(), kinds, strict=True)
    return from_fields(
        rows=list(events),
        kinds=kinds,
        times_us=[event.time_us for event in events.values()],
        # The models' own dictionaries: asking a model for a field that it lacks is slow.
        fields=[event.__dict__ for event in events.values()],
        models={row: event for (row, event), kind in pairs if kind >= Kind.ITEM},
    )


def from_fields(
    rows: Sequence[int],
    kinds: Sequence[int],
    times_us: Sequence[int],
    fields: Sequence[Mapping[str, Any]],
    models: Mapping[int, Event],
) -> Columns:
    """Columns of events that are mappings from the wire's field names to validated values."""

    def strings(name: str) -> list[str]:
        return [field.get(name) or "" for field in fields]

    def numbers(name: str, none: float) -> NDArray[np.float64]:
        found = [field.get(name) for field in fields]
        return np.array([none if number is None else number for number in found], dtype=np.float64)

    answered = [field.get("refers_to") or field.get("impression_id") or "" for field in fields]
    return Columns(
        row=np.array(rows, dtype=np.int64),
        kind=np.array(kinds, dtype=np.uint8),
        time_us=np.array(times_us, dtype=np.int64),
        event_id=strings("event_id"),
        user=strings("user_id"),
        item=strings("item_id"),
        refers_to=answered,
        position=numbers("position", -1).astype(np.int32),
        propensity=numbers("propensity", np.nan),
        value=numbers("value", np.nan),
        campaign=strings("campaign_id"),
        request=strings("request_id"),
        currency=strings("currency"),
        models=models,
    )


def to_batch(source: RecordBatch, *parts: Columns) -> EventBatch:
    """Put the parts of a batch together again, in row order."""
    joined = parts[0]
    if len(parts) > 1:
        order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
        joined = _join(parts, order)
    index = {int(row): at for at, row in enumerate(joined.row)} if joined.models else {}
    return EventBatch(
        partition=source.partition,
        row=joined.row,
        offsets=np.asarray(source.offsets, dtype=np.int64)[joined.row],
        kind=joined.kind,
        time_us=joined.time_us,
        event_id=joined.event_id,
        user=joined.user,
        item=joined.item,
        refers_to=joined.refers_to,
        models={index[row]: model for row, model in sorted(joined.models.items())},
        history=source.history,
        details=Details(
            position=joined.position,
            propensity=joined.propensity,
            value=joined.value,
            campaign=joined.campaign,
            request=joined.request,
            currency=joined.currency,
        ),
    )


def _join(parts: Sequence[Columns], order: NDArray[np.int64]) -> Columns:
    picked = order.tolist()
    fields: dict[str, Any] = {}
    for name in Columns.__slots__:
        columns = [getattr(part, name) for part in parts]
        if name == "models":
            fields[name] = {row: model for column in columns for row, model in column.items()}
        elif isinstance(columns[0], list):
            strings = list(chain.from_iterable(columns))
            fields[name] = [strings[at] for at in picked]
        else:
            fields[name] = np.concatenate(columns)[order]
    return Columns(**fields)
