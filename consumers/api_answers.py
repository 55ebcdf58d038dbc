"""What the HTTP API gives: models that document it, and the plain values that are sent.

Answers are not built from the models, whose checks would cost more than the search; a test
validates real ones against them.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from consumers.asking import Answer, Fell, Rung, Why
from consumers.exploration import Slot
from consumers.index import to_rfc3339
from consumers.serving_rules import Entry


class Given(BaseModel):
    """Something answered: no field is left undocumented."""

    model_config = ConfigDict(extra="forbid")


class Like(Given):
    """An item of the history, and how alike it is."""

    item_id: str
    cosine: float


class Reasons(Given):
    """What made a score."""

    personal: float | None = Field(default=None, description="Of the dot product; main rungs only")
    popularity: float | None = Field(default=None, description="The rest of the dot product")
    boost: float = Field(description="What boosts have added")
    because: list[Like] = []


class CandidateAnswer(Given):
    """One item of a list."""

    item_id: str
    position: int = Field(description="0 is the top")
    score: float = Field(description="A dot product; on popularity's rungs a decayed count")
    propensity: float = Field(gt=0, le=1, description="Of this item in this place")
    explored: bool = False
    title: str | None = None
    campaign_id: str | None = None
    categories: list[str] = []
    price: float | None = None
    why: Reasons | None = None


class CandidatesAnswer(Given):
    """A list, and where it comes from."""

    request_id: str
    user_id: str | None = None
    rung: Rung
    version: int = Field(description="Of the model; 0 before the first")
    fell: list[Fell] = Field(default=[], description="Why no better rung gave the list")
    age_s: float | None = Field(default=None, description="Of a stale list, seconds")
    served_at: str
    items: list[CandidateAnswer]


class BatchAnswer(Given):
    """The lists of a batch, in the order asked for."""

    answers: list[CandidatesAnswer]


class Did(Given):
    """One positive event of a user."""

    item_id: str
    title: str | None = None
    occurred_at: str


class UserAnswer(Given):
    """What is held of a user."""

    user_id: str
    version: int
    events: int = Field(description="Positive events held, at most 2,000")
    has_vector: bool = Field(description="Whether the model knows anything of them")
    history: list[Did] = Field(description="The newest, at most 100")
    preferences: str | None = Field(default=None, description="What a language model said of them")


class VersionAnswer(Given):
    """What is served."""

    version: int = Field(description="Of the model; 0 before the first")
    collection: str | None = Field(description="That candidates are searched in")
    published: int | None = Field(description="What the manifest says is live")
    snapshot: int | None = Field(description="That the state began from")
    positions: dict[str, int] = Field(description="Next offset by partition")
    lag_messages: int | None


class AcceptedAnswer(Given):
    """Events that have arrived in the topic."""

    accepted: int


class AliveAnswer(Given):
    """The process answers."""

    alive: bool


class ReadyAnswer(Given):
    """The server is fit to be asked; where it is not, a problem says why."""

    ready: bool


class IndexAnswer(Given):
    """Whether the index is asked."""

    asked: bool


def answer_value(answer: Answer) -> dict[str, Any]:
    """A `CandidatesAnswer`, without what is not there."""
    value: dict[str, Any] = {
        "request_id": answer.wish.request_id,
        "rung": answer.rung.value,
        "version": answer.version,
        "fell": [why.value for why in answer.fell],
        "served_at": to_rfc3339(answer.at_us),
        "items": [_item(place, slot) for place, slot in enumerate(answer.slots)],
    }
    if answer.wish.user is not None:
        value["user_id"] = answer.wish.user
    if answer.age_s is not None:
        value["age_s"] = round(answer.age_s, 3)
    for item, why in zip(value["items"], answer.why, strict=False):
        item["why"] = _why(why)
    return value


def _item(place: int, slot: Slot[Entry]) -> dict[str, Any]:
    entry, facts = slot.shown, slot.shown.facts
    value: dict[str, Any] = {
        "item_id": entry.id,
        "position": place,
        "score": entry.score,
        "propensity": slot.propensity,
    }
    if slot.explored:
        value["explored"] = True
    if facts.title is not None:
        value["title"] = facts.title
    if facts.campaign is not None:
        value["campaign_id"] = facts.campaign
    if facts.categories:
        value["categories"] = facts.categories
    if facts.price is not None:
        value["price"] = facts.price
    return value


def _why(why: Why) -> dict[str, Any]:
    value: dict[str, Any] = {"boost": why.boost}
    if why.personal is not None:
        value |= {"personal": why.personal, "popularity": why.popularity}
    if why.because:
        value["because"] = [{"item_id": item, "cosine": c} for item, c in why.because]
    return value
