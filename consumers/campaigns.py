"""Campaigns on the fast path: what events say and what was spent becomes fields of items' payloads.

Each time something is published, the state of every campaign is worked out again: whether it runs,
and in which share of requests it takes part. What differs from what was last given out is set in
the payloads of the campaign's items by a filter, without touching a vector; points that are
written whole carry the same fields. Whether users have seen enough of a campaign is asked of
`Campaigns.capped`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from consumers.index import RUNNING, to_rfc3339
from consumers.publisher import Publisher
from model.pacing import Pace, begin, new_day, progress_of, step
from stream.catalog import CampaignRecord
from stream.clock import Clock
from stream.graph import Graph
from stream.spend import MICRO, Account
from stream.traffic import BIN_US, BINS
from stream.zones import DAY_US, HOUR_US, day_of, local_us

Fields = Mapping[str, object]

LOOK_EVERY_US = 1_000_000  # between two looks at campaigns of which no event has come
_LOOK_US = 1_000  # so many campaigns that looking at all takes long are looked at less often
_NOTABLE = 0.02  # relative change of pacing that is worth telling the index
_NOTHING: Fields = {}
_COLUMNS = 6
_BINS_AN_HOUR = HOUR_US // BIN_US


@dataclass(frozen=True, slots=True)
class Standing:
    """How a campaign stands.

    Attributes
    ----------
    state : `RUNNING` or one of `consumers.index.NOT_RUNNING`
    budget : int or None
        Of the day, in millionths; None for no bound to pace by.
    spent : int
        Of the day, in millionths.
    """

    state: str
    budget: int | None
    spent: int

    @property
    def overspent(self) -> int:
        """What was spent beyond the day's budget, in millionths."""
        return 0 if self.budget is None else max(self.spent - self.budget, 0)


class Campaigns:
    """State of all campaigns as of now.

    Parameters
    ----------
    graph : Graph
        Its catalogue knows the campaigns, its ledger what they spent.
    clock : Clock, optional
        Of a live stream, whose campaigns begin and end while no event comes; in a replay time is
        that of the events.
    """

    def __init__(self, graph: Graph, clock: Clock | None = None) -> None:
        self._graph = graph
        self._clock = clock
        self._told: dict[str, Fields] = {}
        self._paces: dict[str, tuple[int, Pace]] = {}  # with the day that each is of
        self._looked_us: int | None = None
        self._shares: tuple[int, NDArray[np.float64]] = (-1, np.zeros(BINS))

    @property
    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        now_us = self._graph.now_us
        return now_us if self._clock is None else max(now_us, self._clock.now_us())

    def tell(self, publisher: Publisher | None) -> None:
        """Set in the index what has changed since the last call."""
        if publisher is not None:
            publisher.tell(self.changed())

    def changed(self) -> dict[str, Fields]:
        """Fields of the campaigns that stand otherwise than was last given out."""
        now_us = self.now_us
        campaigns = self._graph.catalog.campaigns
        moved = self._graph.ledger.moved
        every_us = max(LOOK_EVERY_US, _LOOK_US * len(campaigns))
        if self._looked_us is None or now_us - self._looked_us >= every_us:
            self._looked_us = now_us
            moved.update(campaigns)
        news: dict[str, Fields] = {}
        for name in sorted(moved):
            fields = self._fields(name, campaigns[name], now_us)
            if _notable(self._told.get(name), fields):
                news[name] = self._told[name] = fields
        moved.clear()
        return news

    def fields(self, campaign: str | None) -> Fields:
        """What items of a campaign carry, as was last given out; nothing where none is known."""
        return _NOTHING if campaign is None else self._told.get(campaign, _NOTHING)

    def capped(self, user: str) -> frozenset[str]:
        """Campaigns that a user has been shown as often as their caps allow."""
        [number] = self._graph.users.find([user]).tolist()
        campaigns = self._graph.catalog.campaigns
        return self._graph.ledger.caps.capped(number, self.now_us, campaigns)

    def standing(self, name: str, now_us: int | None = None) -> Standing:
        """How a campaign stands at a time, by default now.

        Raises
        ------
        KeyError
            If no event has told of it.
        """
        now_us = self.now_us if now_us is None else now_us
        record, account = self._graph.catalog.campaigns[name], self._account(name)
        spent = account.days.get(day_of(record.zone, now_us), 0)
        budget = _budget(record, account, spent, now_us)
        return Standing(_state(record, budget, spent, account, now_us), budget, spent)

    # -- for snapshots

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """How campaigns are paced, in the order of their names: float64[n, 6]."""
        rows = np.full((len(self._graph.catalog.campaigns), _COLUMNS), np.nan)
        for row, name in enumerate(sorted(self._graph.catalog.campaigns)):
            if name in self._paces:
                day, pace = self._paces[name]
                known = pace.multiplier, pace.taken, pace.cost, pace.progress, pace.spent
                rows[row] = [day, *known]
        return {"campaigns.paces": rows}

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Put back what `to_arrays` gave; nothing from a snapshot that has none."""
        names = sorted(self._graph.catalog.campaigns)
        rows = arrays.get("campaigns.paces", np.zeros((0, _COLUMNS))).tolist()
        for name, (day, *known) in zip(names, rows, strict=False):
            if not np.isnan(day):
                self._paces[name] = int(day), Pace(*known)

    def _account(self, name: str) -> Account:
        return self._graph.ledger.spend.account(name)

    def _fields(self, name: str, record: CampaignRecord, now_us: int) -> Fields:
        standing = self.standing(name, now_us)
        pacing = 1.0 if record.pacing is None else record.pacing
        if standing.budget is not None:
            pacing *= self._pace(name, record, standing, now_us)
        times = record.starts_us, record.ends_us
        starts, ends = (None if at is None else to_rfc3339(at) for at in times)
        return {
            "campaign_state": standing.state,
            "campaign_pacing": pacing,
            "campaign_starts_at": starts,
            "campaign_ends_at": ends,
            "campaign_cap": record.cap,
            "campaign_cap_window_s": None if record.cap is None else record.window_us // MICRO,
            "campaign_targeting": list(record.targeting) or None,
        }

    def _pace(self, name: str, record: CampaignRecord, standing: Standing, now_us: int) -> float:
        budget, spent = float(standing.budget or 0), float(standing.spent)
        local = local_us(record.zone, now_us)
        day, progress = local // DAY_US, self._progress(record, now_us)
        known = self._paces.get(name)
        if known is None:
            pace = begin(budget, spent, progress)
        else:
            pace = known[1] if known[0] == day else new_day(known[1])
            if standing.state in (RUNNING, "exhausted"):
                pace = step(pace, budget, spent, progress)
            else:  # it took part in nothing, whatever its share
                pace = replace(pace, progress=progress, spent=spent)
        self._paces[name] = day, pace
        return pace.multiplier

    def _progress(self, record: CampaignRecord, now_us: int) -> float:
        """Share of the traffic of a campaign's day that is over by now."""
        local = local_us(record.zone, now_us)
        ahead = (local - now_us) // BIN_US
        if self._shares[0] != now_us // HOUR_US:
            self._shares = now_us // HOUR_US, self._graph.ledger.traffic.shares(now_us)
        shares = np.roll(self._shares[1], ahead)
        begun_us = now_us - local % DAY_US
        time_us = begun_us + np.arange(BINS) * BIN_US
        if record.hours:
            shares[~np.isin(np.arange(BINS) // _BINS_AN_HOUR, record.hours)] = 0
        if record.starts_us is not None:
            shares[time_us + BIN_US <= record.starts_us] = 0
        if record.ends_us is not None:
            shares[time_us >= record.ends_us] = 0
        return progress_of(shares, local % DAY_US / DAY_US)


def _budget(record: CampaignRecord, account: Account, spent: int, now_us: int) -> int | None:
    """What may be spent on the day of now, in millionths; None where nothing bounds a day.

    The daily budget, or else what is left of the whole one spread over the days that are left; and
    never more than what is left.
    """
    before = account.total - spent
    left = None if record.total_budget is None else _micros(record.total_budget) - before
    daily = None if record.daily_budget is None else _micros(record.daily_budget)
    if left is None or daily is not None:
        return daily if left is None or daily is None else min(daily, left)
    if record.ends_us is None:
        return None
    today, last = (day_of(record.zone, at) for at in (now_us, record.ends_us - 1))
    return left // max(last - today + 1, 1)


def _state(
    record: CampaignRecord, budget: int | None, spent: int, account: Account, now_us: int
) -> str:
    if record.paused or record.pacing == 0:
        return "paused"
    if record.ends_us is not None and now_us >= record.ends_us:
        return "ended"
    if record.starts_us is not None and now_us < record.starts_us:
        return "scheduled"
    total, left = record.total_budget, record.budget_left
    if (
        (budget is not None and spent >= budget)
        or (total is not None and account.total >= _micros(total))
        or (left is not None and account.since_told >= _micros(left))
    ):
        return "exhausted"
    hour = local_us(record.zone, now_us) % DAY_US // HOUR_US
    return "off_hours" if record.hours and hour not in record.hours else RUNNING


def _notable(told: Fields | None, fields: Fields) -> bool:
    """Whether fields differ from those that were told by more than a little pacing."""
    if told is None:
        return True
    before, now = (cast(float, one["campaign_pacing"]) for one in (told, fields))
    if {**told, "campaign_pacing": now} != fields:
        return True
    return before != now and (now in (0.0, 1.0) or abs(now - before) > _NOTABLE * before)


def _micros(amount: float) -> int:
    return round(amount * MICRO)
