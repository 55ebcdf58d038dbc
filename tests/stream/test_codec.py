"""Batches in, columns and reasons out: known messages, known answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from stream.batch import Decoded, Headers, Kind, Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits, decode_one, encode, encode_cloud
from stream.columnar import LONGEST, decode_columns
from stream.errors import EventRejected
from stream.events import EVENT

NOW_US = 1_800_000_000_000_000  # 2027-01-15T08:00:00Z
AT = "2026-11-23T18:34:00.123456Z"
AT_US = 1_795_458_840_123_456
CLICK: Mapping[str, Any] = {
    "type": "click",
    "schema_version": 1,
    "event_id": "e",
    "occurred_at": AT,
    "user_id": "u",
    "item_id": "i",
}
ITEM: Mapping[str, Any] = {
    "type": "item",
    "event_id": "e",
    "occurred_at": AT,
    "item_id": "i",
}


def wire(base: Mapping[str, Any] = CLICK, /, *without: str, **fields: Any) -> bytes:
    message = {k: v for k, v in {**base, **fields}.items() if k not in without}
    return json.dumps(message).encode()


def cloud(data: Any, **attributes: Any) -> bytes:
    envelope = {
        "specversion": "1.0",
        "id": "e",
        "source": "/ads",
        "type": "com.example.click",
        "time": AT,
        "data": data,
    }
    return json.dumps({**envelope, **attributes}).encode()


def batch(values: Sequence[bytes], headers: Sequence[Headers] | None = None) -> RecordBatch:
    offsets = np.arange(100, 100 + len(values), dtype=np.int64)
    return RecordBatch(Partition("ads", 3), offsets, values, 100 + len(values), headers)


def decode(
    values: Sequence[bytes], headers: Sequence[Headers] | None = None, **limits: Any
) -> Decoded:
    return Codec(Limits(**limits), ManualClock(NOW_US)).decode(batch(values, headers))


def certain(values: Sequence[bytes]) -> list[int]:
    """Rows that the columnar path takes."""
    found: list[int] = decode_columns(values, NOW_US, 1 << 20).row.tolist()
    return found


def test_every_field_finds_its_column() -> None:
    values = [
        wire(kind="like", impression_id="m", campaign_id="c", request_id="r", position=4, value=2),
        wire(type="impression", position=0, propensity=0.25, campaign_id="c", request_id="r"),
        wire(type="ad_click", impression_id="m", position=1),
        wire(type="conversion", refers_to="x", value=9.5, currency="EUR", campaign_id="c"),
        wire(ITEM, title="shoe", campaign_id="c"),
        wire(),
        wire(type="erase_user"),
    ]
    decoded = decode(values)
    events, details = decoded.events, decoded.events.details
    assert decoded.rejects == ()
    assert [Kind(k).name for k in events.kind.tolist()] == [
        "LIKE",
        "IMPRESSION",
        "AD_CLICK",
        "CONVERSION",
        "ITEM",
        "CLICK",
        "ERASE_USER",
    ]
    assert events.row.tolist() == list(range(7))
    assert events.offsets.tolist() == list(range(100, 107))
    assert events.time_us.tolist() == [AT_US] * 7
    assert events.user == ["u", "u", "u", "u", "", "u", "u"]
    assert events.item == ["i", "i", "i", "i", "i", "i", ""]
    assert events.refers_to == ["m", "", "m", "x", "", "", ""]
    assert details is not None
    assert details.position.tolist() == [4, 0, 1, -1, -1, -1, -1]
    np.testing.assert_array_equal(details.propensity, [np.nan, 0.25] + [np.nan] * 5)
    np.testing.assert_array_equal(details.value, [2, np.nan, np.nan, 9.5] + [np.nan] * 3)
    assert details.campaign == ["c", "c", "", "c", "c", "", ""]
    assert details.request == ["r", "r", "", "", "", "", ""]
    assert details.currency == ["", "", "", "EUR", "", "", ""]
    assert {at: model.model_dump()["type"] for at, model in events.models.items()} == {
        4: "item",
        6: "erase_user",
    }


def test_models_are_found_by_place_in_the_batch_of_events() -> None:
    decoded = decode([b"bad", wire(), b"bad", wire(ITEM)])
    assert decoded.events.row.tolist() == [1, 3]
    assert list(decoded.events.models) == [1]
    assert [reject.row for reject in decoded.rejects] == [0, 2]


def test_an_empty_batch_is_an_empty_answer() -> None:
    decoded = decode([])
    assert len(decoded.events) == 0
    assert decoded.rejects == ()


def test_history_and_partition_are_handed_on() -> None:
    source = RecordBatch(Partition("f", 0), np.zeros(1, np.int64), [wire()], 1, history=True)
    events = Codec(Limits(), ManualClock(NOW_US)).decode(source).events
    assert events.history
    assert events.partition == Partition("f", 0)


USUAL = [
    wire(),
    wire(kind="purchase", value=-3),
    wire(user_id="ü" * 256, item_id='quote"d'),
    wire(occurred_at="2026-11-23T18:34:00+00:00"),
    wire(occurred_at="1970-01-01T00:00:00Z"),
    wire(type="impression", propensity=1, impression_id="not an impression's field"),
    wire(later_field=[1, {"a": None}], user_id="u", campaign_id=None),
    wire(type="conversion", refers_to="x", request_id="ignored", position=7),
    cloud(dict(CLICK)),
    cloud({"user_id": "u", "item_id": "i"}),
]


@pytest.mark.parametrize("value", USUAL)
def test_usual_spellings_take_the_columnar_path(value: bytes) -> None:
    assert certain([value]) == [0]


RARE = [
    (wire(occurred_at="2026-11-23 18:34:00.123456Z"), AT_US),
    (wire(occurred_at="2026-11-23T20:34:00.123456+02:00"), AT_US),
    (wire(occurred_at="2026-11-23T18:34:00.123456789z"), AT_US),
    (wire(extra=float("nan")), AT_US),
    (wire(extra="x" * LONGEST), AT_US),
    (wire(position=None, kind="view", user_id="\U0001f45f"), AT_US),
    (b" \n" + wire() + b"\r\n", AT_US),
    (wire(type="ad_click", kind="no kind of ad click"), AT_US),
    (cloud(dict(CLICK), time="2026-11-23T19:34:00.123456+01:00"), AT_US),
    (b'{"type": "impression", ' + wire()[1:], AT_US),
    (wire(extra="specversion"), AT_US),
    (wire(specversion="1.0").replace(b"specversion", b"specversi\\u006fn"), AT_US),
    (wire(extra="9").replace(b'"9"', b"9" * 4_200), AT_US),
]


@pytest.mark.parametrize(("value", "time_us"), RARE)
def test_rare_spellings_are_taken_all_the_same(value: bytes, time_us: int) -> None:
    decoded = decode([value])
    assert decoded.rejects == ()
    assert decoded.events.time_us.tolist() == [time_us]


def nested(levels: int) -> bytes:
    return b'{"deep": ' + b"[" * levels + b"]" * levels + b", " + wire()[1:]


@pytest.mark.parametrize(("levels", "taken"), [(90, True), (190, True), (250, False)])
def test_depth_is_judged_alike_alone_and_among_many(levels: int, taken: bool) -> None:
    for neighbours in ([], [b""] * 300, [wire()] * 300):
        decoded = decode([*neighbours, nested(levels)])
        assert (len(neighbours) in decoded.events.row) == taken


HOSTILE = [
    (b"", "empty"),
    (b"null", "not_an_object"),
    (b"[]", "not_an_object"),
    (b"[" + wire() + b"]", "not_an_object"),
    (b"17", "not_an_object"),
    (b'"click"', "not_an_object"),
    (b"{", "invalid_json"),
    (wire() + wire(), "invalid_json"),
    (wire() + b"\n" + wire(), "invalid_json"),
    (wire() + b" garbage", "invalid_json"),
    (wire() + b"\x00", "invalid_json"),
    (b"\xef\xbb\xbf" + wire(), "invalid_json"),
    (wire().replace(b'"u"', b'"\xff"'), "invalid_utf8"),
    (wire().replace(b'"u"', b'"\xed\xa0\x80"'), "invalid_utf8"),
    (wire().replace(b'"u"', b'"\\ud800"'), "invalid_json"),
    (wire().replace(b'"u"', b'"\\udc00x"'), "invalid_json"),
    (wire().replace(b'"u"', b'"\\ud800\\u0041"'), "invalid_json"),
    (wire().replace(b'"u"', b'"a\nb"'), "invalid_json"),
    (nested(1_500), "invalid_json"),
    (b"[" * 100_000, "invalid_json"),
    (wire(extra="9").replace(b'"9"', b"9" * 4_400), "invalid_json"),
    (wire(extra="x" * (1 << 20)), "too_large"),
    (wire(CLICK, "type"), "unknown_type"),
    (wire(type="klick"), "unknown_type"),
    (wire(type=None), "unknown_type"),
    (wire(type=["click"]), "unknown_type"),
    (wire(schema_version=2), "unknown_version"),
    (wire(schema_version=True), "unknown_version"),
    (wire(schema_version=1.0), "unknown_version"),
    (wire(schema_version=None), "unknown_version"),
    (wire(schema_version=10**30), "unknown_version"),
    (wire(CLICK, "event_id"), "missing_field"),
    (wire(CLICK, "occurred_at"), "missing_field"),
    (wire(CLICK, "user_id"), "missing_field"),
    (wire(type="conversion"), "missing_field"),
    (wire(user_id=""), "invalid_id"),
    (wire(user_id=7), "invalid_id"),
    (wire(user_id=None), "invalid_id"),
    (wire(user_id="u" * 257), "invalid_id"),
    (wire(user_id="a\x00b"), "invalid_id"),
    (wire(event_id="tab\t"), "invalid_id"),
    (wire(item_id="del\x7f"), "invalid_id"),
    (wire(item_id="del?").replace(b"?", b"\x7f"), "invalid_id"),
    (wire(item_id="c1\x85").replace(b"\\u0085", b"\xc2\x85"), "invalid_id"),
    (wire(campaign_id=""), "invalid_id"),
    (wire(impression_id="\x1b[0m"), "invalid_id"),
    (wire(type="conversion", refers_to=""), "invalid_id"),
    (wire(kind="klick"), "invalid_field"),
    (wire(kind=None), "invalid_field"),
    (wire(position=True), "invalid_field"),
    (wire(position=1.5), "invalid_field"),
    (wire(position="1"), "invalid_field"),
    (wire(position=-1), "out_of_range"),
    (wire(position=10**400), "out_of_range"),
    (wire(value=float("nan")), "not_finite"),
    (wire(value=float("-inf")), "not_finite"),
    (wire(value=0).replace(b'"value": 0', b'"value": 1e400'), "not_finite"),
    (wire(value=1e13), "out_of_range"),
    (wire(type="impression", propensity=0), "out_of_range"),
    (wire(type="impression", propensity=1.01), "out_of_range"),
    (wire(type="conversion", refers_to="x", currency="euro"), "invalid_field"),
    (wire(occurred_at="2099-01-01T00:00:00Z"), "time_ahead"),
    (wire(occurred_at="9999-12-31T23:59:59.999999Z"), "time_ahead"),
    (wire(occurred_at="1969-12-31T23:59:59Z"), "time_before_1970"),
    (wire(occurred_at="2026-11-23T18:34:00"), "invalid_time"),
    (wire(occurred_at="2026-06-30T23:59:60Z"), "invalid_time"),
    (wire(occurred_at="2026-02-29T00:00:00Z"), "invalid_time"),
    (wire(occurred_at="2026-13-01T00:00:00Z"), "invalid_time"),
    (wire(occurred_at="2026-01-01T24:00:00Z"), "invalid_time"),
    (wire(occurred_at="２026-01-01T00:00:00Z"), "invalid_time"),
    (wire(occurred_at=1_700_000_000), "invalid_time"),
    (wire(occurred_at="1700000000"), "invalid_time"),
    (wire(ITEM, vectors={"text": [1, 2]}), "wrong_dimension"),
    (wire(ITEM, vectors={"text": []}), "invalid_vector"),
    (wire(ITEM, vectors={"other": [1.0] * 4097}), "invalid_vector"),
    (wire(ITEM, vectors={"text": [1, 2, float("nan")]}), "not_finite"),
    (wire(ITEM, vectors={"text": [1, 2, 1e39]}), "out_of_range"),
    (wire(ITEM, vectors={"text": [1, 2, True]}), "invalid_vector"),
    (wire(ITEM, title="x" * 1_001), "too_long"),
    (wire(ITEM, categories=["c"] * 65), "too_long"),
    (wire(ITEM, price=-1), "out_of_range"),
    (wire(ITEM, expires_at="tomorrow"), "invalid_time"),
    (cloud(dict(CLICK), id="other"), "envelope_mismatch"),
    (cloud(dict(CLICK), type="com.example.impression"), "envelope_mismatch"),
    (cloud(dict(CLICK), time="2026-11-23T18:34:01Z"), "envelope_mismatch"),
    (cloud(dict(CLICK), time="2026-11-23T18:34:00.123456"), "envelope_mismatch"),
    (cloud(dict(CLICK), time="noon"), "envelope_mismatch"),
    (cloud(dict(CLICK), specversion="0.3"), "invalid_envelope"),
    (cloud(dict(CLICK), specversion=None), "invalid_envelope"),
    (cloud(dict(CLICK), source=""), "invalid_envelope"),
    (wire(specversion="1.0"), "invalid_envelope"),
    (wire(specversion=None), "invalid_envelope"),
    (cloud(dict(CLICK), id=5), "invalid_envelope"),
    (cloud(dict(CLICK), datacontenttype="text/xml"), "invalid_envelope"),
    (cloud("a string"), "invalid_envelope"),
    (b'{"specversion": "1.0", "data_base64": "e30="}', "invalid_envelope"),
    (b'{"specversion": "1.0"}', "invalid_envelope"),
    (b'{"specversion": "1.0", "data": {', "invalid_json"),
    (cloud({"user_id": "u"}), "missing_field"),
    (cloud({"user_id": "u", "item_id": float("nan")}), "invalid_id"),
]


@pytest.mark.parametrize(("value", "reason"), HOSTILE)
def test_a_hostile_message_is_rejected_with_its_reason(value: bytes, reason: str) -> None:
    decoded = decode([value], vector_dims={"text": 3})
    assert [reject.reason for reject in decoded.rejects] == [reason]
    assert 0 < len(decoded.rejects[0].detail) <= 300


def test_hostile_messages_leave_their_neighbours_alone() -> None:
    values: list[bytes] = []
    for place, (value, _) in enumerate(HOSTILE):
        values += [wire(event_id=f"good {place}"), value]
    decoded = decode(values, vector_dims={"text": 3})
    assert decoded.events.event_id == [f"good {place}" for place in range(len(HOSTILE))]
    assert [reject.row for reject in decoded.rejects] == list(range(1, len(values), 2))
    assert [reject.reason for reject in decoded.rejects] == [reason for _, reason in HOSTILE]


HALVES = ["\\ud83d", "\\uDFFF", "\\uD83D\\u0041", "\\udc00\\ud83d", "\\ud83d\\ud83d", "\\ud83d\\n"]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("field", ["user_id", "kind", "unknown", "occurred_at"])
@pytest.mark.parametrize("tail", ["", "and text after it", "\\udc"])
def test_half_a_surrogate_pair_is_not_json_wherever_it_stands(
    half: str, field: str, tail: str
) -> None:
    value = wire(**{field: "?"}).replace(b"?", (half + tail).encode())
    assert [reject.reason for reject in decode([value]).rejects] == ["invalid_json"]


def test_whole_surrogate_pairs_are_characters() -> None:
    decoded = decode([wire(user_id="\U0001f45f", extra="\U0001f45f")])
    assert decoded.events.user == ["\U0001f45f"]


def test_bytes_of_two_rows_never_make_one_character() -> None:
    split = wire().replace(b'"u"', b'"\xc3"')
    assert [reject.row for reject in decode([split, wire(), split]).rejects] == [0, 2]


def test_the_skew_is_inclusive() -> None:
    latest = wire(occurred_at="2027-01-15T08:05:00Z")
    later = wire(occurred_at="2027-01-15T08:05:00.000001Z")
    assert [reject.row for reject in decode([latest, later]).rejects] == [1]
    assert len(decode([later], max_skew_us=300_000_001).rejects) == 0


def test_a_narrower_size_holds_on_both_paths() -> None:
    assert [r.reason for r in decode([wire()], max_bytes=len(wire()) - 1).rejects] == ["too_large"]
    assert decode([wire()], max_bytes=len(wire())).rejects == ()


def test_a_vector_of_a_name_without_expected_length_is_taken() -> None:
    assert decode([wire(ITEM, vectors={"image": [1]})], vector_dims={"text": 3}).rejects == ()


def ce(**attributes: str) -> Headers:
    given = {"specversion": "1.0", "id": "e", "source": "/ads", "type": "x.click", "time": AT}
    headers = {f"ce_{k}": v.encode() for k, v in {**given, **attributes}.items()}
    return (("content-type", b"application/json"), *headers.items())


def test_a_binary_cloud_event_joins_headers_and_data() -> None:
    bare = json.dumps({"user_id": "u", "item_id": "i"}).encode()
    trace = (("traceparent", b"00-1"),)
    decoded = decode([wire(), bare, bare, bare, bare], [(), ce(), trace, (*ce(id="f"), *trace), ()])
    assert decoded.events.row.tolist() == [0, 1, 3]
    assert decoded.events.event_id == ["e", "e", "f"]
    assert [reject.reason for reject in decoded.rejects] == ["unknown_type"] * 2


def test_a_binary_cloud_event_must_agree_and_be_readable() -> None:
    values = [wire(), b"{", wire()]
    headers = [ce(id="other"), ce(), (*ce(), ("ce_subject", b"\xff"))]
    reasons = [reject.reason for reject in decode(values, headers).rejects]
    assert reasons == ["envelope_mismatch", "invalid_json", "invalid_envelope"]


def test_what_is_encoded_as_a_cloud_event_comes_back() -> None:
    for value in (wire(kind="like", value=2.5), wire(ITEM, vectors={"t": [0.1]}, price=3)):
        event = EVENT.validate_json(value)
        assert decode_one(encode_cloud(event, "/shop"), Limits(), NOW_US) == event
        assert decode_one(encode(event), Limits(), NOW_US) == event


def test_decode_one_says_what_was_got_and_what_was_expected() -> None:
    with pytest.raises(EventRejected, match=r"invalid_id: click\.user_id: .*at most 256") as caught:
        decode_one(wire(user_id="u" * 257), Limits(), NOW_US)
    assert caught.value.reason == "invalid_id"
    with pytest.raises(EventRejected, match="and 1 more"):
        decode_one(b'{"type": "click"}', Limits(), NOW_US)
