"""Which touched points are worth a write now; the others wait, and for a bounded time.

A click touches its user and its item. The user is written at once. The item is when its score has
moved by more than `consumers.tolerance` allows, when it is new or told anew, and at the latest
after ``patience_s``; one that has not moved at all need not be. An id that is touched all the time
(a bot, the item of the hour) is written each ``hot_every_s``. Everything that waits is written when
a user is erased, when the landmark of popularity moves, and when a program ends; what waits at a
snapshot is part of it, and is written after a restart.
"""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from consumers.backlog import BacklogWatch
from consumers.campaigns import Campaigns
from consumers.canaries import Canaries
from consumers.gone import Gone
from consumers.index import PointBatch, Space
from consumers.live import LiveModel
from consumers.points import BOTH, changes, item_points, user_points
from consumers.publisher import Publisher
from consumers.tolerance import Tolerance
from stream.catalog import ItemRecord

LOOK_EVERY_US = 10_000_000
LOOK_AFTER = 20
"""Time and refreshes between two looks at what is lost."""
HELD = 4.0
"""Thresholds by which an item must have moved while the index is behind with its own work, and from
which a hot one is written at once."""
HOT = 30
"""Touches in a minute that make an id a hot one."""
MINUTE_US = 60_000_000
_NEVER = -MINUTE_US
WAITING_ITEMS, WAITING_USERS = "shaping.items", "shaping.users"
"""Arrays of a snapshot: numbers of what had still to be written."""


@dataclass(frozen=True, slots=True)
class ShapingRules:
    """What may be lost or late.

    Attributes
    ----------
    loss : float
        Of overlap@k by items that are not written, 0 to 1; with 0 only what has not changed waits.
    patience_s : float
        Longest time that an item waits.
    hot_every_s : float
        Between two writes of a hot id; 0 writes each time.
    backlog : int
        Points that the index has yet to work into its graph, from which items are held back.
    k : int
        Length of the lists that loss is measured by.
    """

    loss: float = 0.005
    patience_s: float = 30.0
    hot_every_s: float = 2.0
    backlog: int = 20_000
    k: int = 20


@dataclass(slots=True)
class Shaped:
    """What came of the touches so far.

    Attributes
    ----------
    touched : points that were touched, once a refresh; each would have been a write
    written : points that were written
    """

    touched: int = 0
    written: int = 0

    @property
    def saved(self) -> int:
        """Writes that were not needed."""
        return self.touched - self.written


class Hot:
    """Ids that are touched all the time, and when each was written last.

    Parameters
    ----------
    every_s : float
        Between two writes of such an id.
    """

    def __init__(self, every_s: float) -> None:
        self._every_us = int(every_s * 1e6)
        self._touches: Counter[int] = Counter()
        self._written_us: dict[int, int] = {}
        self._since_us = _NEVER

    def touch(self, ids: NDArray[np.int32], now_us: int) -> None:
        """Count a refresh that these ids are in."""
        if not self._every_us:
            return
        if now_us - self._since_us >= MINUTE_US:  # who was not hot in it is so no more
            still = {i: at for i, at in self._written_us.items() if self._touches[i] >= HOT}
            self._touches.clear()
            self._since_us, self._written_us = now_us, still
        self._touches.update(ids.tolist())

    def due(self, number: int, now_us: int) -> bool:
        """Whether an id may be written; if so, it counts as written."""
        if number not in self._written_us and self._touches[number] < HOT:
            return True
        if now_us - self._written_us.get(number, _NEVER) < self._every_us:
            return False
        self._written_us[number] = now_us
        return True


class Shaper:
    """Decides what of a live model's changes is written; remembers what was.

    Parameters
    ----------
    rules : ShapingRules
    rng : Generator
        Picks the queries that loss is measured by.
    """

    def __init__(self, rules: ShapingRules, rng: np.random.Generator) -> None:
        self.shaped = Shaped()
        self.tolerance = Tolerance(rules.loss, rules.k, rng)
        self.backlog = BacklogWatch(rules.backlog)
        self.canaries = Canaries()
        self._patience_us = int(rules.patience_s * 1e6)
        self._hot_users, self._hot_items = Hot(rules.hot_every_s), Hot(rules.hot_every_s)
        self._live: LiveModel | None = None
        self._filled: tuple[LiveModel, NDArray[np.float32], dict[int, ItemRecord]] | None = None
        self._seen = np.zeros(0, np.float32)  # last coordinates as written; NaN: not known
        self._records: dict[int, ItemRecord] = {}  # as written
        self._items: dict[int, int] = {}  # those that wait: since when, the longest first
        self._users: set[int] = set()
        self._age = 0.0
        self._looked_us, self._refreshes = _NEVER, 0

    @property
    def waiting(self) -> int:
        """Points that are behind what is known."""
        return len(self._items) + len(self._users)

    def write(
        self,
        live: LiveModel,
        campaigns: Campaigns,
        publisher: Publisher,
        *,
        everything: bool = False,
    ) -> int:
        """Bury who is gone and write what is due; how many points.

        Parameters
        ----------
        publisher : Publisher
            Whose live version is the model's.
        everything : bool
            Let nothing wait.
        """
        held = self.backlog.look(publisher, campaigns.now_us)
        users, items, gone = self.changes(
            live, campaigns, publisher.spaces, held=held, everything=everything
        )
        publisher.remove(gone)
        if Space.USERS in publisher.spaces:
            users = self.canaries.among(users, live)
        publisher.push(users, items)
        return len(users) + len(items)

    def changes(
        self,
        live: LiveModel,
        campaigns: Campaigns,
        spaces: Container[Space] = BOTH,
        *,
        held: bool = False,
        everything: bool = False,
    ) -> tuple[PointBatch, PointBatch, Gone]:
        """What is to be written now, and the ids of those gone.

        Parameters
        ----------
        spaces : what is written here, as for `consumers.points.changes`
        held : bool
            Hold items back, as the index is behind.
        everything : bool
            Let nothing wait.
        """
        if live is not self._live:
            self._begin(live)
        now_us = campaigns.now_us
        touched, gone = live.take_touched()
        if Space.USERS not in spaces:
            touched = replace(touched, users=touched.users[:0])
        self.shaped.touched += len(touched.users) + len(touched.items)
        # An erased user's clicks must not be told by a popularity of before, and two landmarks
        # make no order.
        everything |= bool(gone.users or gone.points) or live.last.age < self._age
        self._age = live.last.age
        users = self._users_due(touched.users, now_us, everything=everything)
        items = self._items_due(live, touched.items, now_us, held=held, everything=everything)
        made = user_points(live, users), item_points(live, items, campaigns)
        self.tolerance.sample(made[0].vectors)
        self.shaped.written += len(users) + len(items)
        self._refreshes += bool(len(touched.users) or len(touched.items))
        if self._refreshes >= LOOK_AFTER and now_us - self._looked_us >= LOOK_EVERY_US:
            self._looked_us, self._refreshes = now_us, 0
            self._look(live)
        return *made, gone

    def filled(
        self, live: LiveModel, campaigns: Campaigns, spaces: Container[Space] = BOTH
    ) -> tuple[PointBatch, PointBatch, Gone]:
        """All changes of a model since it was filled; with them, its collections are as it is."""
        size = len(live.graph.items)
        last, records = live.last.of(size), dict(live.graph.catalog.items)
        self._filled = live, last, records
        return changes(live, campaigns, spaces)

    # -- for snapshots

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Numbers of the items and users that wait."""
        return {
            WAITING_ITEMS: np.array(list(self._items), np.float64),
            WAITING_USERS: np.array(sorted(self._users), np.float64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Have those written that waited; nothing from a snapshot that has none."""
        items, users = (arrays.get(n, np.zeros(0)) for n in (WAITING_ITEMS, WAITING_USERS))
        self._items = dict.fromkeys(items.astype(int).tolist(), _NEVER)
        self._users = set(users.astype(int).tolist())

    # -- what is due

    def _begin(self, live: LiveModel) -> None:
        """Go on with another model: nothing is known of what was written, but what was filled."""
        if self._live is not None:
            self._items.clear()
            self._users.clear()
        self._seen, self._records = np.zeros(0, np.float32), {}
        if self._filled is not None and self._filled[0] is live:
            _, self._seen, self._records = self._filled
        self._live, self._filled, self._age = live, None, live.last.age
        self.tolerance.begin()
        self.canaries.again()

    def _users_due(
        self, touched: NDArray[np.int32], now_us: int, *, everything: bool
    ) -> NDArray[np.int32]:
        self._hot_users.touch(touched, now_us)
        asked = self._users.union(touched.tolist())
        due = {i for i in asked if self._hot_users.due(i, now_us) or everything}
        self._users = asked - due
        return np.array(sorted(due), np.int32)

    def _items_due(
        self,
        live: LiveModel,
        touched: NDArray[np.int32],
        now_us: int,
        *,
        held: bool,
        everything: bool,
    ) -> NDArray[np.int32]:
        size, records = len(live.graph.items), live.graph.catalog.items
        if size > len(self._seen):
            grown = np.full(max(size, 2 * len(self._seen)), np.nan, np.float32)
            grown[: len(self._seen)] = self._seen
            self._seen = grown
        last = live.last.of(size, touched)
        self.tolerance.moved(touched, last)
        self._hot_items.touch(touched, now_us)
        moved = np.abs(last - self._seen[touched])
        far = self.tolerance.threshold * HELD  # a hot one that has moved so far changes lists
        enough = far if held else self.tolerance.threshold
        due = self._overdue(now_us, everything=everything)
        for number, move in zip(touched.tolist(), moved.tolist(), strict=True):
            told = records.get(number) is not self._records.get(number)
            now = move > far or (move > enough and self._hot_items.due(number, now_us))
            if told or now or everything or np.isnan(move):
                due.add(number)
            elif move:
                self._items.setdefault(number, now_us)
            else:  # back where it was, or never gone
                self._items.pop(number, None)
        return self._written(live, np.array(sorted(due), np.int32))

    def _overdue(self, now_us: int, *, everything: bool) -> set[int]:
        due: set[int] = set()
        for number, since_us in self._items.items():
            if not everything and now_us - since_us < self._patience_us:
                break
            due.add(number)
        return due

    def _written(self, live: LiveModel, items: NDArray[np.int32]) -> NDArray[np.int32]:
        """Note that these are written as they are now."""
        records = live.graph.catalog.items
        self._seen[items] = live.last.of(len(live.graph.items), items)
        for number in items.tolist():
            self._items.pop(number, None)
            if number in records:
                self._records[number] = records[number]
        return items

    def _look(self, live: LiveModel) -> None:
        shown = ~live.graph.catalog.removed(len(live.graph.items))
        numbers = np.flatnonzero(shown).astype(np.int32)
        self.tolerance.look(numbers, live.item_vectors(numbers), self._seen[numbers])
