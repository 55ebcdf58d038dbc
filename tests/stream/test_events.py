"""The wire contract: what each model takes, and that encoding loses nothing."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from stream.events import (
    EVENT,
    AdClick,
    Campaign,
    Canary,
    Click,
    Conversion,
    EraseUser,
    Event,
    Impression,
    Item,
    ItemRemoved,
    encode,
    json_schema,
)

AT = datetime(2026, 11, 23, 18, 34, 0, 123456, tzinfo=UTC)

EVENTS: list[Event] = [
    Canary(event_id="e", occurred_at=AT, number=1_023),
    Click(event_id="e", occurred_at=AT, user_id="u", item_id="i", kind="purchase", value=9.5),
    Impression(event_id="e", occurred_at=AT, user_id="u", item_id="i", position=0, propensity=0.25),
    AdClick(event_id="e", occurred_at=AT, user_id="u", item_id="i", campaign_id="c"),
    Conversion(
        event_id="e",
        occurred_at=AT,
        user_id="u",
        item_id="i",
        refers_to="x",
        value=12.0,
        currency="EUR",
    ),
    Item(
        event_id="e",
        occurred_at=AT,
        item_id="i",
        title="Ein Schuh, 👟 rot",
        categories=("shoes", "red"),
        price=10.0,
        vectors={"text": (0.5, -0.25)},
        expires_at=AT + timedelta(days=1),
    ),
    ItemRemoved(event_id="e", occurred_at=AT, item_id="i"),
    Campaign(event_id="e", occurred_at=AT, campaign_id="c", budget_left=0.0, pacing=0.5, cap=3),
    EraseUser(event_id="e", occurred_at=AT, user_id="u"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_encoded_event_comes_back_equal(event: Event) -> None:
    assert EVENT.validate_json(encode(event)) == event


def test_time_is_exact_microseconds_whatever_the_zone() -> None:
    west = AT.astimezone(timezone(timedelta(hours=-7, minutes=-30)))
    events = [EraseUser(event_id="e", occurred_at=at, user_id="u") for at in (AT, west)]
    assert [event.time_us for event in events] == [1_795_458_840_123_456] * 2


def test_expiry_is_exact_microseconds_or_none() -> None:
    item = Item(event_id="e", occurred_at=AT, item_id="i", expires_at=AT)
    assert item.expires_us == item.time_us
    assert Item(event_id="e", occurred_at=AT, item_id="i").expires_us is None


def test_events_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EVENTS[0].event_id = "other"


def test_a_time_in_python_needs_a_zone_too() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        EraseUser(event_id="e", occurred_at=datetime(2026, 1, 1), user_id="u")


def test_schema_names_every_type_and_bounds_every_id() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["discriminator"]["mapping"]) == {event.type for event in EVENTS}
    click = schema["$defs"]["Click"]["properties"]
    assert click["event_id"]["maxLength"] == 256
    assert click["occurred_at"]["format"] == "date-time"
    assert click["schema_version"] == {
        "default": 1,
        "maximum": 1,
        "minimum": 1,
        "title": "Schema Version",
        "type": "integer",
    }
