"""What may be shown, and what it is worth: pure functions over a pool of candidates.

They are applied to what every rung gives, also where the index has filtered already: what a rule
forbids is never returned, whoever was asked.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import cast

from consumers.index import NOT_RUNNING, Conditions, to_rfc3339


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an item and asked about it.

    Attributes
    ----------
    expires_us : int, or None for never
        Microseconds since the epoch, UTC.
    removed : bool
        Whether it must not be shown any more.
    """

    title: str | None = None
    campaign: str | None = None
    categories: tuple[str, ...] = ()
    price: float | None = None
    expires_us: int | None = None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate in the pool.

    Attributes
    ----------
    score : float
        What it is ranked by now.
    base : float
        What it was found with: the dot product, or a decayed count.
    """

    id: str
    score: float
    base: float
    facts: Facts


@dataclass(frozen=True, slots=True)
class Boost:
    """What an item of a category or campaign is worth besides its score.

    Attributes
    ----------
    category, campaign : one of them
    multiply : float
        Not negative; of the distance to the worst score in the pool.
    add : float
        On the scale of the scores.
    """

    category: str | None = None
    campaign: str | None = None
    multiply: float = 1.0
    add: float = 0.0

    def meets(self, facts: Facts) -> bool:
        """Whether it is meant for such an item."""
        if self.category is not None and self.category not in facts.categories:
            return False
        return self.campaign is None or self.campaign == facts.campaign


UNKNOWN = Facts()


def takes_part(fields: Mapping[str, object], conditions: Conditions) -> bool:
    """Whether a campaign may be shown: what the index's filter says of items with its fields.

    Parameters
    ----------
    fields : what `campaigns.Campaigns.fields` says; empty for a campaign of which nothing is known
    """
    if not conditions.any_state and fields.get("campaign_state") in NOT_RUNNING:
        return False
    pacing = cast(float | None, fields.get("campaign_pacing"))
    if conditions.draw is not None and pacing is not None and pacing <= conditions.draw:
        return False
    targeting = cast(Sequence[str] | None, fields.get("campaign_targeting"))
    if conditions.context is not None and targeting and not set(targeting) & {*conditions.context}:
        return False
    if conditions.now_us is None:
        return True
    now = to_rfc3339(conditions.now_us)  # of one length: they compare as the times do
    starts, ends = (
        cast(str | None, fields.get(f"campaign_{name}")) for name in ("starts_at", "ends_at")
    )
    return (starts is None or starts <= now) and (ends is None or now < ends)


def allowed(
    entry: Entry, conditions: Conditions, *, seen: Collection[str], barred: Collection[str]
) -> bool:
    """Whether an item may be shown.

    Parameters
    ----------
    seen : ids of items
        As good as ``conditions.not_items``, however many.
    barred : campaigns
        Stopped for everybody or capped for this user.
    """
    facts = entry.facts
    if facts.removed or entry.id in seen or entry.id in conditions.not_items:
        return False
    if facts.campaign is not None and (
        facts.campaign in barred or facts.campaign in conditions.not_campaigns
    ):
        return False
    if conditions.campaigns is not None and facts.campaign not in conditions.campaigns:
        return False
    wanted = conditions.categories
    if wanted is not None and not any(name in wanted for name in facts.categories):
        return False
    now_us = conditions.now_us
    if now_us is not None and facts.expires_us is not None and facts.expires_us <= now_us:
        return False
    return _within(facts.price, conditions.price_from, conditions.price_to)


def _within(price: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    if price is None:
        return False
    return (low is None or price >= low) and (high is None or price <= high)


def kept(
    pool: Sequence[Entry],
    conditions: Conditions,
    *,
    seen: Collection[str] = (),
    barred: Collection[str] = (),
) -> list[Entry]:
    """Those of a pool that may be shown, each once, in their order."""
    # Long lists are looked into as sets, made once.
    seen = {*seen, *conditions.not_items}
    barred = {*barred, *conditions.not_campaigns}
    rest = replace(conditions, not_items=(), not_campaigns=())
    unique = {entry.id: entry for entry in reversed(pool)}
    return [
        entry
        for entry in pool
        if unique.pop(entry.id, None) is not None and allowed(entry, rest, seen=seen, barred=barred)
    ]


def boosted(pool: Sequence[Entry], boosts: Sequence[Boost]) -> list[Entry]:
    """A pool with its boosts, best first.

    ``score' = low + (score - low) · Π multiply + Σ add`` over the boosts that an item meets,
    ``low`` the worst score in the pool. Scores may be negative; measured from the worst, a
    multiplier above 1 never makes an item worse.
    """
    if not boosts or not pool:
        return list(pool)
    low = min(entry.score for entry in pool)
    raised = [replace(e, score=_raised(e, low, boosts)) for e in pool]
    return sorted(raised, key=attrgetter("score"), reverse=True)


def _raised(entry: Entry, low: float, boosts: Sequence[Boost]) -> float:
    factor, addend = 1.0, 0.0
    for boost in boosts:
        if boost.meets(entry.facts):
            factor *= boost.multiply
            addend += boost.add
    return low + (entry.score - low) * factor + addend
