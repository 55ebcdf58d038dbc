"""What campaigns have spent: by campaign and day, in whole millionths of the currency unit."""

from dataclasses import dataclass, field
from typing import Final

from stream.batch import Kind
from stream.catalog import CampaignRecord

MICRO: Final = 1_000_000  # of a currency unit
KEPT_DAYS: Final = 35
_PER_THOUSAND: Final = 1_000
_PAID: Final = {
    Kind.IMPRESSION: "impression",
    Kind.AD_CLICK: "click",
    Kind.CONVERSION: "conversion",
}


def price(record: CampaignRecord, kind: int) -> int:
    """What one event of a kind costs a campaign, in millionths; 0 where its bid is for another.

    A bid for impressions is of a thousand of them. Rounded to the nearest millionth.
    """
    if record.bid is None or _PAID.get(Kind(kind)) != record.bid_for:
        return 0
    each = record.bid / _PER_THOUSAND if record.bid_for == "impression" else record.bid
    return round(each * MICRO)


@dataclass(slots=True)
class Account:
    """Spend of one campaign, in millionths.

    Attributes
    ----------
    since_told : int
        Since the newest event of the campaign was applied: what is to be taken off ``budget_left``.
    days : day of the campaign's zone -> spend
        The newest `KEPT_DAYS`; ``total`` holds all.
    """

    total: int = 0
    since_told: int = 0
    days: dict[int, int] = field(default_factory=dict[int, int])


class Spend:
    """Accounts of campaigns, and which of them have changed since they were saved."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.changed: set[str] = set()

    def account(self, campaign: str) -> Account:
        """Account of a campaign: an empty one where nothing was spent. Not to be modified."""
        return self.accounts.get(campaign) or Account()

    def charge(self, campaign: str, day: int, micros: int) -> None:
        """Book a charge on a day."""
        account = self.accounts.setdefault(campaign, Account())
        account.total += micros
        account.since_told += micros
        account.days[day] = account.days.get(day, 0) + micros
        if len(account.days) > KEPT_DAYS:
            del account.days[min(account.days)]
        self.changed.add(campaign)

    def told(self, campaign: str) -> None:
        """Begin to count anew what comes off ``budget_left``."""
        if campaign in self.accounts:
            self.accounts[campaign].since_told = 0
            self.changed.add(campaign)
