"""The events that the system takes: nine frozen models behind one discriminated union.

These models *are* the wire contract. `stream.columnar` may only accept what they accept, and must
give the same values. Fields that a model does not know are ignored, so that producers can be
upgraded first; an optional field that is absent and one that is ``null`` mean the same.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stream import zones

SCHEMA_VERSION: Final = 1
ID_CHARACTERS: Final = 256
CATEGORIES: Final = 64
TITLE_CHARACTERS: Final = 1_000
DESCRIPTION_CHARACTERS: Final = 20_000
VECTORS: Final = 8
VECTOR_LENGTH: Final = 4_096
VECTOR_COMPONENT: Final = 1e6  # its square, summed 4,096 times, stays finite in float32
POSITION: Final = 1_000_000
CANARIES: Final = 1_024
AMOUNT: Final = 1e12
BID: Final = 1e6
CAP: Final = 1_000_000
CAP_WINDOW_S: Final = (60, 31 * 86_400)
KEYWORDS: Final = 64
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# RFC 3339 with a mandatory zone: "2026-11-23T18:34:00.123456Z". Digits past the microsecond are
# cut off. Seconds are 00-59: a leap second has no place on a POSIX time line.
TIME_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"


class _WireTime:
    """An aware time since 1970: on the wire a string of `TIME_PATTERN`, in Python a datetime."""

    def __get_pydantic_core_schema__(self, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        moment = core_schema.datetime_schema(strict=False, tz_constraint="aware", ge=EPOCH)
        text = core_schema.str_schema(strict=True, pattern=TIME_PATTERN)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.chain_schema([text, moment]),
            python_schema=moment,
        )

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "date-time", "pattern": TIME_PATTERN}


Type = Literal[
    "click",
    "impression",
    "ad_click",
    "conversion",
    "item",
    "item_removed",
    "campaign",
    "erase_user",
    "canary",
]
ClickKind = Literal["view", "click", "like", "add_to_cart", "purchase"]
Time = Annotated[datetime, _WireTime()]
Id = Annotated[
    str, StringConstraints(min_length=1, max_length=ID_CHARACTERS, pattern=_PRINTABLE, strict=True)
]
# Not a Literal: that would take `true` and `1.0` for 1.
Version = Annotated[int, Field(strict=True, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", strict=True)]
Position = Annotated[int, Field(strict=True, ge=0, le=POSITION)]
Propensity = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Value = Annotated[float, Field(strict=True, ge=-AMOUNT, le=AMOUNT, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, ge=0, le=AMOUNT, allow_inf_nan=False)]
Bid = Annotated[float, Field(strict=True, gt=0, le=BID, allow_inf_nan=False)]
BidFor = Literal["impression", "click", "conversion"]
CapWindow = Annotated[int, Field(strict=True, ge=CAP_WINDOW_S[0], le=CAP_WINDOW_S[1])]
Hour = Annotated[int, Field(strict=True, ge=0, le=23)]
Component = Annotated[
    float, Field(strict=True, ge=-VECTOR_COMPONENT, le=VECTOR_COMPONENT, allow_inf_nan=False)
]
Vector = Annotated[tuple[Component, ...], Field(min_length=1, max_length=VECTOR_LENGTH)]


def _known_zone(zone: str) -> str:
    if zone not in zones.names():
        raise PydanticCustomError("unknown_zone", "not a zone of the IANA database")
    return zone


Zone = Annotated[Id, AfterValidator(_known_zone)]


def _microseconds(moment: datetime) -> int:
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class _Common(BaseModel):
    """What every event carries."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Version = SCHEMA_VERSION
    event_id: Id
    occurred_at: Time

    @property
    def time_us(self) -> int:
        """Event time in microseconds since the Unix epoch, UTC."""
        return _microseconds(self.occurred_at)


class Click(_Common):
    """A user did something positive with an item; `kind` says what."""

    type: Literal["click"] = "click"
    user_id: Id
    item_id: Id
    kind: ClickKind = "click"
    impression_id: Id | None = None
    campaign_id: Id | None = None
    request_id: Id | None = None
    position: Position | None = None
    value: Value | None = None


class Impression(_Common):
    """An item was shown to a user, at a place (0 is the top) and with a known probability."""

    type: Literal["impression"] = "impression"
    user_id: Id
    item_id: Id
    position: Position | None = None
    propensity: Propensity | None = None
    campaign_id: Id | None = None
    request_id: Id | None = None


class AdClick(_Common):
    """A user clicked a paid placement."""

    type: Literal["ad_click"] = "ad_click"
    user_id: Id
    item_id: Id
    impression_id: Id | None = None
    campaign_id: Id | None = None
    request_id: Id | None = None
    position: Position | None = None


class Conversion(_Common):
    """What was hoped for happened, for the impression or click whose event id is `refers_to`."""

    type: Literal["conversion"] = "conversion"
    user_id: Id
    item_id: Id
    refers_to: Id
    campaign_id: Id | None = None
    value: Value | None = None
    currency: Currency | None = None


class Item(_Common):
    """An item exists, or has changed: the whole of it, replacing what was known."""

    type: Literal["item"] = "item"
    item_id: Id
    title: Annotated[str, Field(max_length=TITLE_CHARACTERS)] | None = None
    description: Annotated[str, Field(max_length=DESCRIPTION_CHARACTERS)] | None = None
    categories: Annotated[tuple[Id, ...], Field(max_length=CATEGORIES)] | None = None
    campaign_id: Id | None = None
    price: Amount | None = None
    vectors: Annotated[Mapping[Id, Vector], Field(max_length=VECTORS)] | None = None
    expires_at: Time | None = None

    @property
    def expires_us(self) -> int | None:
        """Expiry in microseconds since the Unix epoch, UTC; None for never."""
        return None if self.expires_at is None else _microseconds(self.expires_at)


class ItemRemoved(_Common):
    """An item must not be shown any more."""

    type: Literal["item_removed"] = "item_removed"
    item_id: Id


class Campaign(_Common):
    """A campaign as it now is, as a whole: what an event does not say is not known any more.

    Amounts are in ``currency``. ``bid`` is the price of a thousand impressions, or of one ad click
    or one conversion, as ``bid_for`` says. ``daily_budget`` is of a calendar day in ``zone``, and
    ``hours`` are those of its clock. A user is shown the campaign ``cap`` times in ``cap_window_s``
    seconds. ``targeting`` are keywords of which a request must name at least one.
    """

    type: Literal["campaign"] = "campaign"
    campaign_id: Id
    budget_left: Amount | None = None
    pacing: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    cap: Annotated[int, Field(strict=True, ge=1, le=CAP)] | None = None
    paused: Annotated[bool, Field(strict=True)] | None = None
    currency: Currency | None = None
    daily_budget: Amount | None = None
    total_budget: Amount | None = None
    bid: Bid | None = None
    bid_for: BidFor | None = None
    cap_window_s: CapWindow | None = None
    starts_at: Time | None = None
    ends_at: Time | None = None
    hours: Annotated[tuple[Hour, ...], Field(min_length=1, max_length=24)] | None = None
    zone: Zone | None = None
    targeting: Annotated[tuple[Id, ...], Field(min_length=1, max_length=KEYWORDS)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        starts, ends = self.starts_at, self.ends_at
        if starts is not None and ends is not None and ends <= starts:
            raise PydanticCustomError("contradiction", "ends_at is not after starts_at")
        if (self.bid is None) != (self.bid_for is None):
            raise PydanticCustomError("contradiction", "bid and bid_for go together")
        if self.cap_window_s is not None and self.cap is None:
            raise PydanticCustomError("contradiction", "cap_window_s without a cap")
        return self

    @property
    def starts_us(self) -> int | None:
        """Start in microseconds since the Unix epoch, UTC; None for always."""
        return None if self.starts_at is None else _microseconds(self.starts_at)

    @property
    def ends_us(self) -> int | None:
        """End, not included, in microseconds since the Unix epoch, UTC; None for never."""
        return None if self.ends_at is None else _microseconds(self.ends_at)


class EraseUser(_Common):
    """Forget a user and all they did."""

    type: Literal["erase_user"] = "erase_user"
    user_id: Id


class Canary(_Common):
    """Measures how long events take to be searchable, and has no other effect."""

    type: Literal["canary"] = "canary"
    number: Annotated[int, Field(strict=True, ge=0, lt=CANARIES)]


Event = Annotated[
    Click | Impression | AdClick | Conversion | Item | ItemRemoved | Campaign | EraseUser | Canary,
    Field(discriminator="type"),
]
EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a plain event on the wire."""
    schema = EVENT.json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "goatstream event",
        **schema,
    }


def encode(event: Event) -> bytes:
    """Write an event as one line of canonical JSON; `Codec.decode` gives back its equal."""
    return event.model_dump_json(exclude_none=True).encode()
