"""What is known of items and campaigns: the newest word on each, by event time.

An item's description and its removal may reach us in either order. The later of the two in event
time holds; at the same time, the removal does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream.events import BidFor, Campaign, Item
from stream.growing import Growing
from stream.zones import DAY_US

_NEVER = -1
_LAST = int(np.iinfo(np.int64).max)
TEXT = "text"  # name of the vector, given or embedded, that stands for an item's text
IMAGE = "image"  # of the vector that stands for its pictures, given in events


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item.

    Attributes
    ----------
    announced_us : int
        Event time of what is known here; -1 when only a removal is known.
    removed_us : int
        Event time of the last removal; -1 for none.
    expires_us : int, or None for never
    vectors : name -> float32[d]
    """

    announced_us: int = _NEVER
    removed_us: int = _NEVER
    event_id: str = ""
    title: str | None = None
    description: str | None = None
    categories: tuple[str, ...] = ()
    campaign_id: str | None = None
    price: float | None = None
    expires_us: int | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(
        default_factory=dict[str, NDArray[np.float32]]
    )

    @property
    def removed(self) -> bool:
        """Whether the item must not be shown any more."""
        return self.removed_us >= self.announced_us and self.removed_us != _NEVER

    @property
    def text(self) -> str:
        """Title, categories and description as one text; empty where nothing is known."""
        parts = (self.title or "", ", ".join(self.categories), self.description or "")
        return ". ".join(p for p in parts if p)


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """State of one campaign; None where it was not said. Fields as in `stream.events.Campaign`.

    Attributes
    ----------
    told_us : int
        Event time of what is known here.
    starts_us, ends_us : int, or None for no bound
    hours : hours of the day in ``zone``, 0 to 23; empty for all
    targeting : keywords; empty for everybody
    """

    told_us: int
    event_id: str
    budget_left: float | None = None
    pacing: float | None = None
    cap: int | None = None
    paused: bool | None = None
    currency: str | None = None
    daily_budget: float | None = None
    total_budget: float | None = None
    bid: float | None = None
    bid_for: BidFor | None = None
    cap_window_s: int | None = None
    starts_us: int | None = None
    ends_us: int | None = None
    hours: tuple[int, ...] = ()
    zone: str = "UTC"
    targeting: tuple[str, ...] = ()

    @property
    def window_us(self) -> int:
        """For how long an impression counts towards the cap, microseconds: a day if not said."""
        return DAY_US if self.cap_window_s is None else self.cap_window_s * 1_000_000


_SAID = (
    "budget_left", "pacing", "cap", "paused", "currency", "daily_budget", "total_budget", "bid",
    "bid_for", "cap_window_s", "starts_us", "ends_us",
)  # fmt: skip


def campaign_of(event: Campaign) -> CampaignRecord:
    """What an event says of its campaign."""
    return CampaignRecord(
        told_us=event.time_us,
        event_id=event.event_id,
        **{name: getattr(event, name) for name in _SAID},
        hours=tuple(sorted(set(event.hours or ()))),
        zone=event.zone or "UTC",
        targeting=event.targeting or (),
    )


def newer(event: Campaign, known: CampaignRecord | None) -> bool:
    """Whether an event says something newer of its campaign than is known."""
    return known is None or (event.time_us, event.event_id) > (known.told_us, known.event_id)


def record_of(item: Item) -> ItemRecord:
    """What an event says of its item."""
    return ItemRecord(
        announced_us=item.time_us,
        event_id=item.event_id,
        title=item.title,
        description=item.description,
        categories=item.categories or (),
        campaign_id=item.campaign_id,
        price=item.price,
        expires_us=item.expires_us,
        vectors={n: np.array(v, np.float32) for n, v in (item.vectors or {}).items()},
    )


class Catalog:
    """Items by their number in the item vocabulary, and campaigns by name."""

    def __init__(self) -> None:
        self._items: dict[int, ItemRecord] = {}
        self._campaigns: dict[str, CampaignRecord] = {}
        self._removed: Growing[np.bool_] = Growing(np.bool_)
        self._expires: Growing[np.int64] = Growing(np.int64, _LAST)
        self.changed_items: set[int] = set()
        self.changed_campaigns: set[str] = set()

    @property
    def items(self) -> Mapping[int, ItemRecord]:
        """What is known, by item number; items only ever clicked are not in it."""
        return self._items

    @property
    def campaigns(self) -> Mapping[str, CampaignRecord]:
        """What is known of campaigns."""
        return self._campaigns

    def announce(self, number: int, item: Item) -> bool:
        """Take in an item's description; False if a newer one is known."""
        known = self._items.get(number, ItemRecord())
        told = record_of(item)
        if (told.announced_us, told.event_id) <= (known.announced_us, known.event_id):
            return False
        self._set(number, replace(told, removed_us=known.removed_us))
        return True

    def attach(self, number: int, name: str, vector: NDArray[np.float32]) -> None:
        """Add a vector, float32[d], to a known item's; it goes when the item is told anew."""
        known = self._items[number]
        self._set(number, replace(known, vectors={**known.vectors, name: vector}))

    def remove(self, number: int, time_us: int) -> bool:
        """Take in an item's removal; False if it was removed as late or later already."""
        known = self._items.get(number, ItemRecord())
        if time_us <= known.removed_us:
            return False
        self._set(number, replace(known, removed_us=time_us))
        return True

    def follow(self, number: int, *, announced_us: int, removed_us: int) -> None:
        """Go by the times at which somebody else has last heard of an item, if they are later."""
        known = self._items.get(number, ItemRecord())
        announced_us = max(known.announced_us, announced_us)
        removed_us = max(known.removed_us, removed_us)
        if (announced_us, removed_us) != (known.announced_us, known.removed_us):
            self._set(number, replace(known, announced_us=announced_us, removed_us=removed_us))

    def tell(self, campaign: Campaign) -> bool:
        """Take in a campaign's state; False if a newer one is known."""
        if not newer(campaign, self._campaigns.get(campaign.campaign_id)):
            return False
        self._campaigns[campaign.campaign_id] = campaign_of(campaign)
        self.changed_campaigns.add(campaign.campaign_id)
        return True

    def removed(self, n: int) -> NDArray[np.bool_]:
        """Which of the first ``n`` items are removed: bool[n], not to be kept."""
        return self._removed.reserve(n)[:n]

    def showable(self, n: int, now_us: int) -> NDArray[np.bool_]:
        """Which of the first ``n`` items may be shown at a time: not removed, not expired."""
        showable: NDArray[np.bool_] = ~self.removed(n) & (self._expires.reserve(n)[:n] > now_us)
        return showable

    def mark_saved(self) -> None:
        """What changed so far is on disk."""
        self.changed_items.clear()
        self.changed_campaigns.clear()

    def restore(
        self,
        items: Iterable[tuple[int, ItemRecord]],
        campaigns: Iterable[tuple[str, CampaignRecord]],
    ) -> None:
        """Put back what a snapshot held."""
        self._items.update(items)
        self._campaigns.update(campaigns)
        if self._items:
            self._mark(list(self._items.items()))
        self.mark_saved()

    def _set(self, number: int, record: ItemRecord) -> None:
        self._items[number] = record
        self.changed_items.add(number)
        self._mark([(number, record)])

    def _mark(self, items: Sequence[tuple[int, ItemRecord]]) -> None:
        """Note which of these are removed, and when they expire."""
        at = [number for number, _ in items]
        top = max(at) + 1
        self._removed.reserve(top)[at] = [record.removed for _, record in items]
        expires = [record.expires_us for _, record in items]
        self._expires.reserve(top)[at] = [_LAST if us is None else us for us in expires]
