"""The columnar path and the contract accept the same language and find the same values.

Messages are made in four ways: valid events of every type; those with fields replaced by odd
values, removed or repeated; those with bytes changed; and any of them in a CloudEvents envelope.
Each batch is decoded whole, and message by message through pydantic alone.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.batch import Decoded, EventBatch, Partition, RecordBatch, Reject
from stream.clock import ManualClock
from stream.codec import Codec, Limits, decode_one
from stream.columnar import decode_columns
from stream.columns import from_events, to_batch
from stream.errors import EventRejected
from stream.events import Event

NOW_US = 1_800_000_000_000_000
LIMITS = Limits(vector_dims={"text": 2})
OPTIONAL = ("campaign_id", "request_id", "impression_id", "refers_to")

identifiers = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
) | st.sampled_from(["u", "i" * 256, "é" * 256, "\U0001f45f", 'a"\\/b', "\u00a0", "\ufeff"])
times = st.datetimes(datetime(1970, 1, 1), datetime(2026, 12, 31)).map(
    lambda moment: moment.isoformat() + "Z"
)
spellings = st.sampled_from(
    [
        "2026-11-23T18:34:00Z",
        "2026-11-23T18:34:00.5Z",
        "2026-11-23T18:34:00.123+00:00",
        "2026-11-23 18:34:00.123456-07:00",
        "2024-02-29T23:59:59.999999Z",
        "1970-01-01T00:00:00+14:00",
    ]
)
finite = st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event of any type, sometimes with fields that belong to another."""
    kind = draw(
        st.sampled_from(["click", "impression", "ad_click", "conversion", "click", "item"])
        | st.sampled_from(["item_removed", "campaign", "erase_user"])
    )
    event: dict[str, Any] = {
        "type": kind,
        "schema_version": 1,
        "event_id": draw(identifiers),
        "occurred_at": draw(times | spellings),
        "user_id": draw(identifiers),
        "item_id": draw(identifiers),
    }
    if kind == "click":
        event["kind"] = draw(st.sampled_from(["view", "click", "like", "add_to_cart", "purchase"]))
    if kind == "conversion":
        event["refers_to"] = draw(identifiers)
    if kind == "campaign":
        event["campaign_id"] = draw(identifiers)
    optional: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(OPTIONAL, identifiers),
        "position": st.integers(0, 1_000_000),
        "propensity": st.floats(1e-300, 1),
        "value": finite,
        "currency": st.sampled_from(["EUR", "USD"]),
        "bid": st.floats(1e-6, 1e6),
        "bid_for": st.sampled_from(["impression", "click", "conversion"]),
        "ends_at": spellings,
        "zone": st.sampled_from(["UTC", "Asia/Tokyo", "Nowhere"]),
        "hours": st.lists(st.integers(0, 23)),
        "vectors": st.fixed_dictionaries({"text": st.lists(st.floats(-1e6, 1e6), min_size=2)}),
        "unknown": st.recursive(st.none() | finite | identifiers, st.lists, max_leaves=4),
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=4)):
        event.setdefault(name, draw(st.none() | optional[name]))
    return event


odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1.0,
        1e13,
        1e300,
        10**25,
        10**400,
        float("nan"),
        float("inf"),
        "",
        "\x00",
        "a\tb",
        "\x85",
        "\x7f",
        "x" * 257,
        "é" * 257,
        "1",
        "\ud800",
        "\udc00\ud800",
        [],
        {},
        [[]],
        "click",
        "like",
        "item",
        "eur",
        "2026-02-29T00:00:00Z",
        "2026-11-23T18:34:60Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T18:34:00",
        "2099-01-01T00:00:00.000Z",
        "1969-12-31T23:59:59Z",
        "0000-00-00T00:00:00Z",
        "1700000000",
        "２026-11-23T18:34:00Z",
        "x" * 5_000,
        "9" * 4_400,
    ]
) | (st.none() | st.booleans() | finite | st.text(max_size=4))

NAMES = st.sampled_from(
    [
        "type",
        "schema_version",
        "event_id",
        "occurred_at",
        "user_id",
        "item_id",
        "kind",
        "impression_id",
        "refers_to",
        "campaign_id",
        "request_id",
        "position",
        "propensity",
        "value",
        "currency",
        "specversion",
        "data",
        "unknown",
    ]
)


def pairs_to_json(draw: st.DrawFn, pairs: Sequence[tuple[str, Any]]) -> bytes:
    """An object with these members, repeated names included, in one of many spellings."""
    ascii_only = draw(st.booleans())
    gap = draw(st.sampled_from(["", " ", "\t", "\n "]))
    members = []
    for name, value in pairs:
        text = json.dumps(value, ensure_ascii=ascii_only)
        members.append(f'"{name}":{gap}{text}')
    return ("{" + f",{gap}".join(members) + "}").encode("utf-8", "surrogatepass")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """The bytes of one message, valid, odd or broken."""
    event = draw(events())
    if draw(st.integers(0, 4)) == 0:
        data = {k: v for k, v in event.items() if draw(st.integers(0, 3)) != 0}
        event = {
            "specversion": "1.0",
            "id": event["event_id"],
            "source": draw(st.sampled_from(["/s", "/s", "/s", ""])),
            "type": draw(st.sampled_from(["", "com.x."])) + event["type"],
            "time": event["occurred_at"],
            "data": data,
        }
    pairs = list(event.items())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        pairs.insert(draw(st.integers(0, len(pairs))), (draw(NAMES), draw(odd)))
    if draw(st.integers(0, 4)) == 0:
        del pairs[draw(st.integers(0, len(pairs) - 1))]
    value = pairs_to_json(draw, pairs)
    if draw(st.integers(0, 4)) == 0:
        start = draw(st.integers(0, len(value)))
        stop = start + draw(st.integers(0, 3))
        patch = st.binary(max_size=3) | st.sampled_from(
            [
                b"{}",
                b'"',
                b"\\",
                b"\\u0000",
                b"\\ud83d",
                b"NaN",
                b"01",
                b"1.",
                b"[[",
                b"\x00",
                b"\n",
            ]
        )
        value = value[:start] + draw(patch) + value[stop:]
    return value


junk = st.binary(max_size=8) | st.sampled_from(
    [b"null", b"[]", b"{}", b"{}{}", b"\xef\xbb\xbf{}", b"[" * 3_000, b'{"a":' * 500]
)


def by_contract(batch: RecordBatch) -> Decoded:
    """What pydantic alone makes of a batch."""
    found: dict[int, Event] = {}
    rejects: list[Reject] = []
    for row, value in enumerate(batch.values):
        try:
            found[row] = decode_one(value, LIMITS, NOW_US)
        except EventRejected as error:
            rejects.append(Reject(row, error.reason, error.detail))
    return Decoded(to_batch(batch, from_events(found)), tuple(rejects))


def assert_same(got: EventBatch, expected: EventBatch) -> None:
    for part, other in ((got, expected), (got.details, expected.details)):
        assert part is not None
        for field in fields(part):
            if field.name != "details":
                one, two = getattr(part, field.name), getattr(other, field.name)
                np.testing.assert_equal(one, two, err_msg=field.name)


def batch_of(values: Sequence[bytes]) -> RecordBatch:
    return RecordBatch(Partition("t", 0), np.arange(len(values)), values, len(values))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages() | messages() | messages() | junk, max_size=12))
def test_the_two_accept_the_same_language_with_the_same_values(values: list[bytes]) -> None:
    batch = batch_of(values)
    decoded, expected = Codec(LIMITS, ManualClock(NOW_US)).decode(batch), by_contract(batch)
    assert decoded.rejects == expected.rejects
    assert_same(decoded.events, expected.events)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), max_size=12))
def test_canonical_interactions_never_need_the_contract(drawn: list[dict[str, Any]]) -> None:
    """Without this the property above would hold for a columnar path that takes nothing."""
    plain = ("click", "impression", "ad_click", "conversion")
    canonical = [
        {**event, "occurred_at": "2026-11-23T18:34:00.123456Z"}
        for event in drawn
        if event["type"] in plain
    ]
    values = [json.dumps(event, ensure_ascii=False).encode() for event in canonical]
    assert decode_columns(values, NOW_US, 1 << 20).row.tolist() == list(range(len(values)))
