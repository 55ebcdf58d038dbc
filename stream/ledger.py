"""What a batch of events means to campaigns: charges, impressions towards caps, traffic.

Each event is booked once, when it is admitted, at the price that the campaign's events applied
before it in the stream have set; so a charge depends on the events of its partition in their order,
and not on how they were cut into batches.
"""

from collections.abc import Sequence
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from stream.batch import EventBatch, Kind
from stream.caps import Caps
from stream.catalog import CampaignRecord, Catalog, ItemRecord, campaign_of, newer
from stream.events import Campaign, Item
from stream.spend import Spend, price
from stream.traffic import Traffic
from stream.vocabulary import Vocabulary
from stream.zones import day_of

_BOOKED = [Kind.IMPRESSION, Kind.AD_CLICK, Kind.CONVERSION]
_READ = [*_BOOKED, Kind.ITEM, Kind.CAMPAIGN, Kind.ERASE_USER]
_UNKNOWN = ItemRecord()


class Ledger:
    """Spend, caps and traffic; saved with the graph, since they are effects of the same events.

    Attributes
    ----------
    moved : set of str
        Campaigns told of or charged since somebody last emptied it; not saved.
    """

    def __init__(self) -> None:
        self.spend = Spend()
        self.caps = Caps()
        self.traffic = Traffic()
        self.moved: set[str] = set()
        self._shown: list[tuple[str, str, int]] = []

    def take(
        self, batch: EventBatch, keep: NDArray[np.int64], catalog: Catalog, items: Vocabulary
    ) -> None:
        """Book the events of a batch that were admitted, before the catalogue takes them in."""
        kind = batch.kind[keep]
        acts = keep[kind < Kind.ITEM]
        self.traffic.count(batch.time_us[acts])
        told = keep[kind == Kind.CAMPAIGN].tolist()
        if self.spend.accounts or _matters(catalog, [batch.models[i] for i in told]):
            rows: list[int] = keep[np.isin(kind, _READ)].tolist()
            numbers = items.find([batch.item[i] for i in rows]).tolist()
            self._book(batch, rows, numbers, _Known(catalog))

    def settle(self, users: Vocabulary) -> None:
        """Count impressions towards caps, now that all users have numbers."""
        if self._shown:
            numbers = users.find([user for user, *_ in self._shown]).tolist()
            for number, (_, campaign, time_us) in zip(numbers, self._shown, strict=True):
                if number >= 0:
                    self.caps.shown(number, campaign, time_us)
            self._shown.clear()

    def told(self, campaign: str, record: CampaignRecord) -> None:
        """Go by what has newly been said of a campaign."""
        self.spend.told(campaign)
        if record.cap is not None:
            self.caps.watch(campaign, record.window_us)

    def mark_saved(self) -> None:
        """All so far is on disk."""
        self.spend.changed.clear()
        self.caps.erased.clear()

    def _book(
        self, batch: EventBatch, rows: Sequence[int], numbers: Sequence[int], known: "_Known"
    ) -> None:
        """Book these rows in order; ``numbers`` are those of their items, -1 for new ones."""
        named: Sequence[str] = () if batch.details is None else batch.details.campaign
        for i, number in zip(rows, numbers, strict=True):
            kind = int(batch.kind[i])
            if kind == Kind.CAMPAIGN:
                event = cast(Campaign, batch.models[i])
                if known.tell(event):
                    self.told(event.campaign_id, campaign_of(event))
            elif kind == Kind.ITEM:
                known.announce(number, cast(Item, batch.models[i]))
            elif kind == Kind.ERASE_USER:
                self._shown = [shown for shown in self._shown if shown[0] != batch.user[i]]
            else:
                campaign = (named[i] if named else "") or known.campaign_of(number, batch.item[i])
                record = known.campaigns(campaign)
                if record is not None:
                    time_us = int(batch.time_us[i])
                    self._charge(campaign, record, kind, batch.user[i], time_us)

    def _charge(
        self, campaign: str, record: CampaignRecord, kind: int, user: str, time_us: int
    ) -> None:
        if micros := price(record, kind):
            self.spend.charge(campaign, day_of(record.zone, time_us), micros)
            self.moved.add(campaign)
        if kind == Kind.IMPRESSION and record.cap is not None:
            self._shown.append((user, campaign, time_us))


class _Known:
    """The catalogue as it is when a row of a batch is reached."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._told: dict[str, CampaignRecord] = {}
        self._announced: dict[str, Item] = {}

    def campaigns(self, name: str) -> CampaignRecord | None:
        return self._told.get(name) or self._catalog.campaigns.get(name)

    def tell(self, event: Campaign) -> bool:
        if not newer(event, self.campaigns(event.campaign_id)):
            return False
        self._told[event.campaign_id] = campaign_of(event)
        return True

    def announce(self, number: int, event: Item) -> None:
        known = self._announced.get(event.item_id)
        before = self._catalog.items.get(number, _UNKNOWN)
        told = (before.announced_us, before.event_id)
        if known is not None:
            told = (known.time_us, known.event_id)
        if (event.time_us, event.event_id) > told:
            self._announced[event.item_id] = event

    def campaign_of(self, number: int, item: str) -> str:
        """Campaign of an item; empty for none."""
        known = self._announced.get(item) or self._catalog.items.get(number, _UNKNOWN)
        return known.campaign_id or ""


def _matters(catalog: Catalog, told: Sequence[BaseModel]) -> bool:
    """Whether any campaign has or gets a price or a cap: else there is nothing to book."""
    known = ((c.bid, c.cap) for c in catalog.campaigns.values())
    new = ((c.bid, c.cap) for c in cast(Sequence[Campaign], told))
    return any(one != (None, None) for one in chain(known, new))
