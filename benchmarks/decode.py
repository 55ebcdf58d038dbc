"""Decode rate: bytes to validated event columns, against pydantic alone and msgspec.

Every contender gets the same messages (clicks, impressions, ad clicks and conversions, about 265
bytes each) and must give the same thing, an `EventBatch`:

- ours: `Codec.decode`;
- pydantic: `validate_json` message by message, then columns;
- msgspec: a tagged union of structs with the contract's bounds and patterns and aware datetimes,
  message by message, then columns.

The two libraries are also timed for parsing alone: objects, no columns. Contenders take turns in
one process, by its CPU time (none of them waits for anything), and the median of the turns counts,
so that a busy machine slows them alike. The last line is one JSON object: microseconds a message,
and ratios of rates, ours over theirs.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from stream.batch import EventBatch, Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.columns import KIND_OF_CLICK, KIND_OF_TYPE, from_events, from_fields, to_batch
from stream.events import AMOUNT, EPOCH, EVENT, POSITION, ClickKind

NOW_US: Final = 1_800_000_000_000_000
START: Final = datetime(2026, 11, 1, tzinfo=UTC)

Id = Annotated[str, Meta(min_length=1, max_length=256, pattern="^[^\x00-\x1f\x7f-\x9f]+$")]
Position = Annotated[int, Meta(ge=0, le=POSITION)]
Value = Annotated[float, Meta(ge=-AMOUNT, le=AMOUNT)]


class Common(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What the four interactions share, with the contract's bounds."""

    type: ClassVar[str]
    event_id: Id
    occurred_at: Annotated[datetime, Meta(tz=True)]
    user_id: Id
    item_id: Id
    schema_version: Literal[1] = 1
    campaign_id: Id | None = None


class Click(Common, frozen=True, kw_only=True, tag="click"):
    """As `stream.events.Click`."""

    type = "click"
    kind: ClickKind = "click"
    impression_id: Id | None = None
    request_id: Id | None = None
    position: Position | None = None
    value: Value | None = None


class Impression(Common, frozen=True, kw_only=True, tag="impression"):
    """As `stream.events.Impression`."""

    type = "impression"
    position: Position | None = None
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None
    request_id: Id | None = None


class AdClick(Common, frozen=True, kw_only=True, tag="ad_click"):
    """As `stream.events.AdClick`."""

    type = "ad_click"
    impression_id: Id | None = None
    request_id: Id | None = None
    position: Position | None = None


class Conversion(Common, frozen=True, kw_only=True, tag="conversion"):
    """As `stream.events.Conversion`."""

    type = "conversion"
    refers_to: Id
    value: Value | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None = None


STRUCTS: Final = msgspec.json.Decoder(Click | Impression | AdClick | Conversion)


def message(row: int, rng: np.random.Generator) -> bytes:
    """One interaction as a producer would write it."""
    identifier = rng.bytes(16).hex()
    moment = START + timedelta(milliseconds=37 * row)
    event: dict[str, Any] = {
        "type": ("impression", "click", "impression", "ad_click", "conversion")[row % 5],
        "schema_version": 1,
        "event_id": identifier,
        "occurred_at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "user_id": f"user-{rng.integers(1_000_000)}",
        "item_id": f"item-{rng.integers(100_000)}",
        "campaign_id": f"campaign-{rng.integers(500)}",
    }
    if event["type"] == "conversion":
        event |= {"refers_to": rng.bytes(16).hex(), "value": round(rng.gamma(2, 20), 2)}
        event["currency"] = "EUR"
    else:
        event |= {"position": int(rng.integers(20)), "request_id": rng.bytes(8).hex()}
    if event["type"] == "impression":
        event["propensity"] = round(1 / (1 + int(rng.integers(20))), 4)
    elif "click" in event["type"]:
        event["impression_id"] = rng.bytes(8).hex()
    return json.dumps(event, separators=(",", ":")).encode()


def by_pydantic(batch: RecordBatch) -> EventBatch:
    """What one would write without this codec."""
    return to_batch(batch, from_events(dict(enumerate(map(EVENT.validate_json, batch.values)))))


def by_msgspec(batch: RecordBatch) -> EventBatch:
    """The same with msgspec for pydantic."""
    found = list(map(STRUCTS.decode, batch.values))
    microsecond = timedelta(microseconds=1)
    columns = from_fields(
        rows=range(len(found)),
        kinds=[
            KIND_OF_CLICK[event.kind] if isinstance(event, Click) else KIND_OF_TYPE[event.type]
            for event in found
        ],
        times_us=[(event.occurred_at - EPOCH) // microsecond for event in found],
        fields=list(map(msgspec.structs.asdict, found)),
        models={},
    )
    return to_batch(batch, columns)


def measure(
    contenders: dict[str, Callable[[], object]], turns: int, messages: int
) -> dict[str, float]:
    """Median microseconds a message of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns):
        for name, run in contenders.items():
            begin = time.process_time()
            result = run()
            taken[name].append((time.process_time() - begin) / messages * 1e6)
            del result
        print(f"turn {turn + 1} of {turns}", file=sys.stderr)
    return {name: statistics.median(figures) for name, figures in taken.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=5_000, help="a batch (default %(default)s)")
    parser.add_argument("--turns", type=int, default=25, help="(default %(default)s)")
    given = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    values = [message(row, rng) for row in range(given.messages)]
    batch = RecordBatch(Partition("bench", 0), np.arange(len(values)), values, len(values))
    codec = Codec(Limits(), ManualClock(NOW_US))

    decoded = codec.decode(batch)
    if decoded.rejects:
        raise SystemExit(f"the benchmark's own messages were rejected: {decoded.rejects[0]}")
    np.testing.assert_equal(decoded.events.event_id, by_pydantic(batch).event_id)
    np.testing.assert_array_equal(decoded.events.time_us, by_msgspec(batch).time_us)

    us = measure(
        {
            "ours": lambda: codec.decode(batch),
            "pydantic": lambda: by_pydantic(batch),
            "msgspec": lambda: by_msgspec(batch),
            "pydantic_parse_only": lambda: list(map(EVENT.validate_json, values)),
            "msgspec_parse_only": lambda: list(map(STRUCTS.decode, values)),
        },
        given.turns,
        len(values),
    )
    report = {
        "bytes_per_message": round(sum(map(len, values)) / len(values), 1),
        "messages_per_s": round(1e6 / us["ours"]),
        **{f"ratio_to_{name}": round(us[name] / us["ours"], 2) for name in us if name != "ours"},
        **{f"{name}_us": round(figure, 3) for name, figure in us.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
