"""What the board's routes take and give, documented for whoever else wants the figures."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from consumers.api_answers import Given
from consumers.api_requests import Value, whole
from consumers.scene import Watch
from consumers.status import Status


class GatesShown(Given):
    """What was checked before the flip."""

    items: int
    users: int
    probes: int
    k: int
    overlap: float = Field(description="Of candidates that are best by brute force too")


class VersionShown(Given):
    """A publication, or a return to an earlier version."""

    version: int
    at: str
    step: str
    collection: str
    gates: GatesShown | None
    live: bool
    kept: bool = Field(description="Readers can be taken back to it")
    asked: bool = Field(description="A return to it is waiting for the fast path")


class SeriesShown(Given):
    """A watch as a whole."""

    watch: str
    answer: str
    deviations: dict[str, list[float]]
    ends: list[int]
    null: int = Field(description="Of the windows shown, those that taught the null")
    since: int


class DriftShown(Given):
    """What `goat watch` has left in the state folder."""

    series: list[SeriesShown]
    age_s: float | None = Field(description="Since it last looked")
    alerts: list[dict[str, Any]] = Field(description="The newest first; see docs/drift.md")
    muted: dict[str, str] = Field(description="Until when, by watch")


class SpentAt(Given):
    """What was spent of a day by a moment."""

    at_us: int
    spent: float
    pacing: float


class CampaignShown(Given):
    """A campaign, as the server counts it."""

    campaign_id: str
    state: str
    budget: float | None = Field(description="Of the day")
    spent: float = Field(description="Of the day")
    pacing: float
    currency: str | None
    cap: int | None
    planned: list[float] = Field(description="Share of a day's traffic by the end of each hour")
    curve: list[SpentAt] = Field(description="Since the server began, at most an hour")


class BoardAnswer(Given):
    """Everything on the board that changes from moment to moment."""

    at: str
    status: Status | None = Field(description="Of the fast path; none where none has run")
    status_age_s: float | None
    status_stale: bool
    served_version: int
    trouble: str | None = Field(description="Why this server does not get on")
    versions: list[VersionShown]
    drift: DriftShown
    campaigns: list[CampaignShown]
    users: list[str] = Field(description="Who acted last")


class PointShown(Given):
    """An item in both spaces."""

    item_id: str
    title: str
    segment: str
    id: list[float]
    text: list[float]


class MapAnswer(Given):
    """The space of ids and that of texts, in the plane of their first principal components."""

    version: int
    explained: float = Field(description="Share of the variance that is in the plane")
    points: list[PointShown]


class AskedAnswer(Given):
    """What was asked for, and by whom it will be done."""

    asked: str


Number = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(whole)]


class RollbackRequest(Value):
    """Return to an earlier version that is kept."""

    version: Number


class AcknowledgeRequest(Value):
    """An alert has been seen."""

    alert: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]


class MuteRequest(Value):
    """Alerts of a watch go nowhere for so long."""

    watch: Annotated[str, Field(json_schema_extra={"enum": [str(watch) for watch in Watch]})]
    hours: Annotated[float, Field(gt=0, le=24 * 30, allow_inf_nan=False)]
