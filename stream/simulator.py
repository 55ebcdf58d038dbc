"""A seeded ad platform: the same seed gives the same messages, byte for byte.

Users open pages. A page shows five items drawn by a known policy (hence propensities), one place
is paid for; higher places are looked at more. Clicks follow, conversions follow later, new items
come and old ones go, tastes wander, and at a known message many users' tastes turn.
"""

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np

from stream.simulated_world import Floats, Indices, Thing, World

PAGES: Final = 64  # made at a time; the world changes between two such blocks
EXAMINED: Final = np.array([1.0, 0.75, 0.55, 0.4, 0.3])  # chance that a place is looked at
PAID_PLACE: Final = 1
_SECOND: Final = 1_000_000
_EXPLORED: Final = 0.3  # share of places filled uniformly at random
_KINDS: Final = ("click", "like", "add_to_cart", "purchase")
_KIND_SHARES: Final = (0.82, 0.1, 0.05, 0.03)


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """How large the platform is and what happens on it.

    Attributes
    ----------
    messages : stop after so many; the messages before that do not depend on it
    users, items, campaigns : how many there are; a third of the users comes later, more items too
    all_users_at : message by which the last user has come
    drift_at : the first page at or after this message meets the new tastes; None: no drift
    drift_share : share of the users whose tastes turn then
    wander : how far tastes move with each page, as a share of their length
    new_items, removed_items : a block of 64 pages, on average
    conversion_share : of ad clicks, that end in a conversion
    conversion_delay_s : mean, seconds
    start_us : time of the first message, microseconds since the Unix epoch
    page_gap_s : between two pages, mean, seconds
    """

    messages: int = 60_000
    users: int = 1_000
    all_users_at: int = 60_000
    items: int = 600
    campaigns: int = 12
    drift_at: int | None = 40_000
    drift_share: float = 0.5
    wander: float = 0.02
    new_items: float = 1.0
    removed_items: float = 0.3
    conversion_share: float = 0.25
    conversion_delay_s: float = 3_600.0
    start_us: int = 1_767_225_600_000_000  # 2026-01-01
    page_gap_s: float = 8.0


@dataclass(frozen=True, slots=True)
class _Page:
    """What a page shows, place by place, and what its user does."""

    user: int
    time_us: int
    items: Indices
    propensities: Floats
    clicked: np.ndarray[tuple[int], np.dtype[np.bool_]]
    searched: int  # item that the user went to without being shown it; -1 for none


class Simulator:
    """Messages of a simulated ad platform, in order of time, as on the wire.

    Parameters
    ----------
    config : SimulatorConfig
    rng : np.random.Generator
        Decides everything.

    Attributes
    ----------
    world : World
        The truth: tastes, items, qualities.
    drifted_at : int or None
        Number of messages that came before the first page of the new tastes.
    """

    def __init__(self, config: SimulatorConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._run = f"{int(rng.integers(2**32)):08x}"  # keeps two runs' event ids apart
        self._ids = count()
        self._order = count()
        self._waiting: list[tuple[int, int, str, str]] = []  # time, order, before and after time
        self._sent = 0
        self._now_us = config.start_us
        self._budgets = np.round(rng.uniform(500.0, 5_000.0, size=config.campaigns), 2)
        self.drifted_at: int | None = None
        self.world = World(config.users, config.items, config.campaigns, rng)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the messages; a simulator runs once."""
        config = self._config
        for campaign in range(config.campaigns):
            self._campaign(campaign)
        for thing in self.world.things:
            self._item(thing)
        while self._sent < config.messages:
            if self.drifted_at is None and config.drift_at is not None:
                self._maybe_drift(config.drift_at)
            self._pages()
            self._changes()
            yield from self._due()

    def preference(self, user: str) -> Mapping[str, float]:
        """The truth: probability with which this user, as of now, would pick each live item."""
        world = self.world
        chances = world.choice(world.cosines(np.array([int(user.removeprefix("user-"))])))[0]
        return {
            thing.name: float(chance)
            for thing, chance, live in zip(world.things, chances, world.live, strict=True)
            if live
        }

    def _maybe_drift(self, drift_at: int) -> None:
        if self._sent >= drift_at:
            self.world.upheaval(self._config.drift_share)
            self.drifted_at = self._sent

    def _pages(self) -> None:
        """Let users open a block of pages and do what they do."""
        rng, world, config = self._rng, self.world, self._config
        known = config.users * (2 / 3 + min(1.0, self._sent / config.all_users_at) / 3)
        activity = np.where(np.arange(config.users) < known, world.activity, 0.0)
        users = rng.choice(config.users, size=PAGES, p=activity / activity.sum())
        world.wander(np.unique(users), config.wander)
        gaps = rng.exponential(config.page_gap_s * _SECOND, size=PAGES).astype(np.int64) + 1
        times = self._now_us + np.cumsum(gaps)
        self._now_us = int(times[-1])
        cosines = world.cosines(users)
        items, propensities = self._shown(cosines)
        suits = np.take_along_axis(cosines, items, axis=1)
        wanted = 1 / (1 + np.exp(-(6.0 * suits - 2.2 + 0.3 * world.quality[items])))
        clicked = rng.random(items.shape) < EXAMINED * wanted
        searched = _draw(world.choice(cosines), rng.random((PAGES, 1)))[:, 0]
        searched[rng.random(PAGES) < 0.4] = -1
        for at in range(PAGES):
            self._page(
                _Page(
                    int(users[at]), int(times[at]), items[at], propensities[at], clicked[at],
                    int(searched[at]),
                )
            )  # fmt: skip

    def _shown(self, cosines: Floats) -> tuple[Indices, Floats]:
        """Items of each page's places and the probability with which each was drawn there."""
        world = self.world
        uniform = world.live / world.live.sum()
        free = _EXPLORED * uniform + (1 - _EXPLORED) * world.choice(0.6 * cosines)
        funded = self._budgets > 0
        paid = world.live & (world.sponsor >= 0)
        paid[paid] = funded[world.sponsor[paid]]
        adverts = world.softmax(3.0 * cosines, paid) if paid.any() else free
        items = _draw(free, self._rng.random((len(cosines), len(EXAMINED))))
        items[:, PAID_PLACE] = _draw(adverts, self._rng.random((len(cosines), 1)))[:, 0]
        propensities = np.take_along_axis(free, items, axis=1)
        at_paid = items[:, PAID_PLACE : PAID_PLACE + 1]
        propensities[:, PAID_PLACE] = np.take_along_axis(adverts, at_paid, axis=1)[:, 0]
        return items, propensities

    def _page(self, page: _Page) -> None:
        request = f"r{next(self._ids):x}"
        things, shown = self.world.things, set[int]()
        for place, item in enumerate(page.items.tolist()):
            if item in shown:  # a page shows nothing twice
                continue
            shown.add(item)
            paid = place == PAID_PLACE and things[item].campaign >= 0
            impression = self._id()
            body = f'","user_id":"user-{page.user}","item_id":"{things[item].name}"'
            asked = f',"request_id":"{request}"'
            campaign = f',"campaign_id":"campaign-{things[item].campaign}"' if paid else ""
            self._say(
                "impression", impression, page.time_us + place,
                f'{body},"position":{place},"propensity":{page.propensities[place]:.6g}'
                f"{campaign}{asked}",
            )  # fmt: skip
            if page.clicked[place]:
                after_us = page.time_us + int(self._rng.exponential(9.0) * _SECOND) + _SECOND
                answer = (
                    f'{body},"impression_id":"{impression}","position":{place}{campaign}{asked}'
                )
                self._click(after_us, answer, body, campaign, things[item])
        if page.searched >= 0 and page.searched not in shown:
            body = f'","user_id":"user-{page.user}","item_id":"{things[page.searched].name}"'
            self._say("click", self._id(), page.time_us + 30 * _SECOND, f'{body},"kind":"click"')

    def _click(self, time_us: int, answer: str, body: str, campaign: str, thing: Thing) -> None:
        if not campaign:
            kind = _KINDS[int(self._rng.choice(len(_KINDS), p=_KIND_SHARES))]
            self._say("click", self._id(), time_us, f'{answer},"kind":"{kind}"')
            return
        click = self._id()
        self._say("ad_click", click, time_us, answer)
        self._budgets[thing.campaign] = round(self._budgets[thing.campaign] - 1.0, 2)
        if self._rng.random() < self._config.conversion_share:
            delay_s = self._rng.exponential(self._config.conversion_delay_s)
            paid = f',"refers_to":"{click}","value":{thing.price},"currency":"EUR"'
            self._say(
                "conversion", self._id(), time_us + int(delay_s * _SECOND) + 1,
                f"{body}{campaign}{paid}",
            )  # fmt: skip

    def _changes(self) -> None:
        """Let items come and go; tell what campaigns have left."""
        rng, config = self._rng, self._config
        for thing in self.world.add_items(int(rng.poisson(config.new_items))):
            self._item(thing)
        for _ in range(int(rng.poisson(config.removed_items))):
            gone = self.world.remove_item()
            self._say("item_removed", self._id(), self._now_us, f'","item_id":"{gone.name}"')
        if config.campaigns and rng.random() < 0.2:
            self._campaign(int(rng.integers(config.campaigns)))

    def _campaign(self, campaign: int) -> None:
        left = max(0.0, float(self._budgets[campaign]))
        paused = "true" if left <= 0 else "false"
        self._say(
            "campaign", self._id(), self._now_us,
            f'","campaign_id":"campaign-{campaign}","budget_left":{left},"paused":{paused}',
        )  # fmt: skip

    def _item(self, thing: Thing) -> None:
        campaign = f',"campaign_id":"campaign-{thing.campaign}"' if thing.campaign >= 0 else ""
        vector = ",".join(f"{x:.4f}" for x in thing.vector.tolist())
        self._say(
            "item", self._id(), self._now_us,
            f'","item_id":"{thing.name}","title":{json.dumps(thing.title)},'
            f'"description":{json.dumps(thing.description)},"categories":["{thing.category}"]'
            f'{campaign},"price":{thing.price},"vectors":{{"text":[{vector}]}}',
        )  # fmt: skip

    def _id(self) -> str:
        return f"{self._run}-{next(self._ids):x}"

    def _say(self, kind: str, event_id: str, time_us: int, body: str) -> None:
        before = f'{{"type":"{kind}","event_id":"{event_id}","occurred_at":"'
        heapq.heappush(self._waiting, (time_us, next(self._order), before, body + "}"))

    def _due(self) -> Iterator[bytes]:
        """Messages up to now, in order of time."""
        due: list[tuple[int, int, str, str]] = []
        while self._waiting and self._waiting[0][0] <= self._now_us:
            due.append(heapq.heappop(self._waiting))
        due = due[: self._config.messages - self._sent]
        self._sent += len(due)
        stamps = np.datetime_as_string(np.array([m[0] for m in due], "M8[us]"), unit="us")
        for (_, _, before, after), stamp in zip(due, stamps.tolist(), strict=True):
            yield f"{before}{stamp}Z{after}".encode()


def _draw(chances: Floats, uniform: Floats) -> Indices:
    """Draw item indices, int64[n, k], by the probabilities of each row."""
    upto = np.cumsum(chances, axis=1)
    upto /= upto[:, -1:]
    rows = [np.searchsorted(row, u, side="right") for row, u in zip(upto, uniform, strict=True)]
    drawn: Indices = np.minimum(np.array(rows, dtype=np.int64), chances.shape[1] - 1)
    return drawn
