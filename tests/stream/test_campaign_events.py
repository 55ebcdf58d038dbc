"""What a campaign may say, and the exact reason why something else is refused."""

import json
from typing import Any

import pytest

from stream.catalog import CampaignRecord, campaign_of
from stream.catalog_table import campaign_table, campaigns_of
from stream.contract import Limits, parse
from stream.errors import EventRejected
from stream.events import EVENT, Campaign, encode
from stream.zones import DAY_US, HOUR_US, day_of, local_us

NOW_US = 1_800_000_000_000_000
WHOLE: dict[str, Any] = {
    "currency": "EUR",
    "daily_budget": 100.5,
    "total_budget": 1e12,
    "bid": 2.25,
    "bid_for": "impression",
    "cap": 3,
    "cap_window_s": 3_600,
    "starts_at": "2026-01-01T00:00:00Z",
    "ends_at": "2030-01-01T00:00:00+01:00",
    "hours": [22, 9, 9],
    "zone": "Europe/Berlin",
    "targeting": ["mobile", "shoes"],
}


def wire(**more: Any) -> bytes:
    event = {
        "type": "campaign",
        "event_id": "e",
        "occurred_at": "2026-01-01T00:00:00Z",
        "campaign_id": "c",
        **more,
    }
    return json.dumps(event).encode()


def campaign(**more: Any) -> Campaign:
    event = parse(wire(**more), Limits(), NOW_US)
    assert isinstance(event, Campaign)
    return event


def test_every_field_is_taken_and_survives_encoding_and_a_snapshot() -> None:
    event = campaign(**WHOLE)
    assert EVENT.validate_json(encode(event)) == event
    record = campaign_of(event)
    assert (record.hours, record.zone, record.targeting) == (
        (9, 22),
        "Europe/Berlin",
        ("mobile", "shoes"),
    )
    assert record.window_us == 3_600_000_000
    assert record.ends_us == event.ends_us and record.starts_us == event.starts_us
    assert dict(campaigns_of(campaign_table({"c": record}))) == {"c": record}


def test_what_is_left_out_is_not_known() -> None:
    record = campaign_of(campaign())
    assert record == CampaignRecord(record.told_us, "e")
    assert record.window_us == DAY_US
    nulls = dict.fromkeys(WHOLE)
    assert campaign_of(campaign(**nulls)) == record


def test_a_record_of_before_these_fields_is_read() -> None:
    table = campaign_table({"c": CampaignRecord(0, "e")})
    old = {"told_us": 1, "event_id": "e", "budget_left": 2.0, "pacing": None, "cap": 3}
    table = table.set_column(1, "record", [[json.dumps({**old, "paused": True})]])
    expected = CampaignRecord(1, "e", budget_left=2.0, cap=3, paused=True)
    assert dict(campaigns_of(table)) == {"c": expected}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"daily_budget": 1e13}, "out_of_range"),
        ({"daily_budget": -0.01}, "out_of_range"),
        ({"total_budget": "100"}, "invalid_field"),
        ({"bid": 1e7, "bid_for": "click"}, "out_of_range"),
        ({"bid": 0, "bid_for": "click"}, "out_of_range"),
        ({"bid": 1.0, "bid_for": "view"}, "invalid_field"),
        ({"bid": 1.0}, "contradiction"),
        ({"bid_for": "click"}, "contradiction"),
        ({"cap_window_s": 3_600}, "contradiction"),
        ({"cap": 1, "cap_window_s": 59}, "out_of_range"),
        ({"cap": 1, "cap_window_s": 2_678_401}, "out_of_range"),
        ({"ends_at": WHOLE["starts_at"], "starts_at": WHOLE["starts_at"]}, "contradiction"),
        ({"ends_at": "2025-01-01T00:00:00Z", "starts_at": WHOLE["starts_at"]}, "contradiction"),
        ({"ends_at": "tomorrow"}, "invalid_time"),
        ({"starts_at": "1969-12-31T23:59:59Z"}, "time_before_1970"),
        ({"zone": "Europe/Atlantis"}, "unknown_zone"),
        ({"zone": "../../etc/passwd"}, "unknown_zone"),
        ({"zone": "Europe"}, "unknown_zone"),
        ({"zone": ""}, "too_short"),
        ({"hours": []}, "too_short"),
        ({"hours": [24]}, "out_of_range"),
        ({"hours": [1.5]}, "invalid_field"),
        ({"hours": [*list(range(24)), 0]}, "too_long"),
        ({"targeting": ["x"] * 65}, "too_long"),
        ({"targeting": ["\x00"]}, "invalid_field"),
        ({"currency": "euro"}, "invalid_field"),
    ],
)
def test_what_is_absurd_is_refused_with_its_reason(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventRejected) as refused:
        campaign(**more)
    expected = {"too_short": "invalid_field"}.get(reason, reason)
    assert refused.value.reason == expected, refused.value.detail


def test_days_and_hours_are_those_of_the_zone() -> None:
    summer = 1_782_856_800_000_000  # 2026-06-30T22:00:00Z, midnight in Berlin
    assert day_of("Europe/Berlin", summer) == day_of("UTC", summer) + 1
    assert local_us("Europe/Berlin", summer) % DAY_US == 0
    winter = summer + 184 * DAY_US
    assert local_us("Europe/Berlin", winter) % DAY_US // HOUR_US == 23


def test_a_time_at_the_end_of_all_days_is_no_error() -> None:
    ends = campaign(ends_at="9999-12-31T23:59:59.999999Z", zone="Pacific/Kiritimati").ends_us
    assert ends is not None
    assert day_of("Pacific/Kiritimati", ends) > 0
