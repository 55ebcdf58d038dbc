"""What the HTTP API takes: every field bounded, none unknown."""

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from consumers.asking import Wish
from consumers.index import Conditions
from consumers.serving_rules import Boost
from stream.events import Id

MOST_K = 500
MOST_EXCLUDED = 2_000
MOST_RECENT = 100
MOST_VALUES = 256
MOST_BOOSTS = 32
MOST_BATCH = 64
MOST_K_BATCHED = 100
LARGEST = 1e9

Ids = Annotated[list[Id], Field(min_length=1, max_length=MOST_VALUES)]


def whole(value: object) -> object:
    """JSON has one kind of number: 5.0 is the integer 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The bounds come first: behind the validator they would not be in the document.
K = Annotated[int, Field(ge=1, le=MOST_K), BeforeValidator(whole)]
BatchedK = Annotated[int, Field(ge=1, le=MOST_K_BATCHED), BeforeValidator(whole)]
Price = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]


class Value(BaseModel):
    """Something asked: no field is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Filter(Value):
    """What every item must fulfil."""

    categories: Ids | None = Field(default=None, description="Any of these")
    campaigns: Ids | None = Field(default=None, description="Any of these")
    price_from: Price | None = Field(default=None, description="Inclusive; needs a price")
    price_to: Price | None = Field(default=None, description="Inclusive; needs a price")


class Exclude(Value):
    """What must not be shown."""

    items: list[Id] = Field(default_factory=list[Id], max_length=MOST_EXCLUDED)
    campaigns: list[Id] = Field(default_factory=list[Id], max_length=MOST_VALUES)


class Context(Value):
    """What is known of the moment."""

    categories: list[Id] = Field(
        default_factory=list[Id],
        max_length=MOST_VALUES,
        description="What the page is about; no condition",
    )
    keywords: list[Id] = Field(
        default_factory=list[Id],
        max_length=MOST_VALUES,
        description="What campaigns may target; those that target none of it are left out",
    )


class BoostRequest(Value):
    """What items of a category or campaign are worth besides their score."""

    category: Id | None = None
    campaign: Id | None = None
    multiply: float = Field(
        default=1.0, ge=0, le=100, allow_inf_nan=False, description="Of the lead over the worst"
    )
    add: float = Field(
        default=0.0, ge=-100, le=100, allow_inf_nan=False, description="On the scale of scores"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("category", "campaign")
            ]
        }
    )

    @model_validator(mode="after")
    def _aimed(self) -> Self:
        if self.category is None and self.campaign is None:
            raise ValueError("a boost names a category or a campaign")
        return self


class Diversity(Value):
    """How unlike the items of a list are."""

    relevance: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="λ of MMR; 1 is by score alone"
    )
    per_category: K | None = Field(default=None, description="At most so many")


class Exploration(Value):
    """How often a slot shows what it would not have."""

    epsilon: float = Field(default=0.0, ge=0, le=0.5, allow_inf_nan=False)


class CandidatesRequest(Value):
    """A list of items for a user, for somebody who just did something, or for a context."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u-17", "k": 5, "filter": {"categories": ["shoes"]}},
                {"recent": ["sku-9", "sku-4"], "k": 5, "diversity": {"relevance": 0.7}},
                {"context": {"categories": ["bags"]}, "exploration": {"epsilon": 0.1}},
            ]
        }
    )

    request_id: Id | None = Field(default=None, description="Made when there is none")
    user_id: Id | None = None
    recent: list[Id] = Field(
        default_factory=list[Id],
        max_length=MOST_RECENT,
        description="Items just dealt with, the newest first",
    )
    context: Context = Field(default_factory=Context)
    k: K = 20
    filter: Filter = Field(default_factory=Filter)
    exclude: Exclude = Field(default_factory=Exclude)
    boosts: list[BoostRequest] = Field(default_factory=list[BoostRequest], max_length=MOST_BOOSTS)
    diversity: Diversity = Field(default_factory=Diversity)
    exploration: Exploration = Field(default_factory=Exploration)
    explain: bool = False
    include_seen: bool = Field(default=False, description="Show again what the user dealt with")
    record: bool = Field(
        default=True, description="Put it on record; false where it is looked at and not shown"
    )

    def wish(self, request_id: str) -> Wish:
        """The same inside the server."""
        return Wish(
            k=self.k,
            user=self.user_id,
            recent=tuple(self.recent),
            context=tuple(self.context.categories),
            keywords=tuple(self.context.keywords),
            conditions=_conditions(self.filter, self.exclude),
            boosts=tuple(Boost(b.category, b.campaign, b.multiply, b.add) for b in self.boosts),
            relevance=self.diversity.relevance,
            cap=self.diversity.per_category,
            epsilon=self.exploration.epsilon,
            explain=self.explain,
            seen=self.include_seen,
            recorded=self.record,
            request_id=self.request_id or request_id,
        )


class BatchedRequest(CandidatesRequest):
    """One list of a batch."""

    k: BatchedK = 20


class BatchRequest(Value):
    """Several lists at once, answered in their order under one deadline."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"user_id": "u-17"}, {"user_id": "u-4"}]}]}
    )

    requests: list[BatchedRequest] = Field(min_length=1, max_length=MOST_BATCH)


def _conditions(filter: Filter, exclude: Exclude) -> Conditions:
    return Conditions(
        campaigns=None if filter.campaigns is None else tuple(filter.campaigns),
        categories=None if filter.categories is None else tuple(filter.categories),
        not_campaigns=tuple(exclude.campaigns),
        not_items=tuple(exclude.items),
        price_from=filter.price_from,
        price_to=filter.price_to,
    )
