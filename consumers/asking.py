"""What is asked for and what is answered, inside the server: plain frozen values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from consumers.exploration import Slot
from consumers.index import ANY, Conditions
from consumers.serving_rules import Boost, Entry


class Rung(StrEnum):
    """Where a list comes from, best first; see docs/serving.md."""

    USER = "user"
    RECENT = "recent"
    SIMILAR = "similar"
    STALE = "stale"
    SEGMENT = "segment"
    POPULAR = "popular"


class Fell(StrEnum):
    """Why a better rung did not give the list."""

    NOT_RESTORED = "not_restored"
    USER_UNKNOWN = "user_unknown"
    USER_WITHOUT_HISTORY = "user_without_history"
    ITEM_UNKNOWN = "item_unknown"
    RECENT_UNKNOWN = "recent_unknown"
    NOTHING_PUBLISHED = "nothing_published"
    INDEX_UNAVAILABLE = "index_unavailable"
    INDEX_REFUSED = "index_refused"
    INDEX_RESTING = "index_resting"
    INDEX_EMPTY = "index_empty"
    SEGMENT_EMPTY = "segment_empty"


@dataclass(frozen=True, slots=True)
class Wish:
    """One list that is asked for.

    Attributes
    ----------
    recent : items, the newest first
    context : categories that the page is about; no condition
    keywords : what campaigns may target
    similar_to : an item, instead of somebody
    conditions : without time, draw and context, which the server sets
    relevance : λ of `diversity.mmr`; None for no MMR
    cap : most items of one category; None for no cap
    epsilon : share of exploration
    seen : whether items the user has dealt with may be shown again
    recorded : whether it goes into the record of lists served
    """

    k: int = 20
    user: str | None = None
    recent: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    similar_to: str | None = None
    conditions: Conditions = ANY
    boosts: tuple[Boost, ...] = ()
    relevance: float | None = None
    cap: int | None = None
    epsilon: float = 0.0
    explain: bool = False
    seen: bool = False
    recorded: bool = True
    request_id: str = ""

    @property
    def segment(self) -> tuple[str, ...]:
        """Categories whose popularity stands in: those asked for, else those of the context."""
        return self.conditions.categories or self.context

    @property
    def pool(self) -> int:
        """Candidates to fetch, so that rules which choose have something to choose from."""
        chooses = self.boosts or self.relevance is not None or self.cap or self.epsilon
        return min(max(4 * self.k, 50), 2_000) if chooses else self.k + self.k // 4 + 4

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for wishes whose candidates before the rules are the same."""
        c = self.conditions
        bounds = c.campaigns, c.categories, c.price_from, c.price_to
        return self.user, self.similar_to, self.recent, self.context, *bounds


@dataclass(frozen=True, slots=True)
class Why:
    """What made a candidate's score.

    Attributes
    ----------
    personal, popularity : the two parts of the dot product; None on other rungs
    boost : what boosts have added
    because : items of the history that are most like it, with their cosine
    """

    personal: float | None
    popularity: float | None
    boost: float
    because: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A list, and where it comes from.

    Attributes
    ----------
    version : int
        Of the model; 0 before the first.
    age_s : float or None
        Of a stale list, seconds.
    why : one for each slot, where it was asked for
    """

    wish: Wish
    rung: Rung
    version: int
    fell: tuple[Fell, ...]
    age_s: float | None
    at_us: int
    slots: Sequence[Slot[Entry]]
    why: Sequence[Why] = ()


@dataclass(slots=True)
class Plan:
    """How a wish is to be fulfilled, as of one moment.

    Attributes
    ----------
    vector : float32[d + 1]
        What the index is searched by; None where only popularity is left.
    seen : items not to be shown, the newest first
    barred : campaigns that the user has been shown as often as they allow
    """

    wish: Wish
    conditions: Conditions
    rung: Rung = Rung.POPULAR
    version: int = 0
    collection: str = ""
    vector: NDArray[np.float32] | None = None
    history: NDArray[np.int32] | None = None
    seen: tuple[str, ...] = ()
    barred: frozenset[str] = frozenset()
    fell: list[Fell] = field(default_factory=list[Fell])
    age_s: float | None = None
