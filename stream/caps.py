"""How often users were shown campaigns lately: exact, within bounded memory.

The last ``rows`` impressions of campaigns with a cap lie in a ring, each with the place of its
user's impression before it, so that one user's are found without looking at others'. When the ring
is full the oldest goes. Were it still within its campaign's window, its user would now be shown
that campaign once more often than the cap says: that is counted, in `forgotten`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.catalog import CampaignRecord
from stream.growing import Growing

ROWS: Final = 1 << 20
ROW_BYTES: Final = 24
USER_BYTES: Final = 8
_FIRST: Final = 1_024
_NONE: Final = -1


class Caps:
    """Impressions of capped campaigns by user.

    Memory is `ROW_BYTES` an impression, at most ``rows`` of them (25 MB by default), and
    `USER_BYTES` a user of the graph.

    Parameters
    ----------
    rows : int
        Impressions remembered.
    """

    def __init__(self, rows: int = ROWS) -> None:
        if rows < 1:
            raise ValueError(f"at least one impression is remembered: got {rows}")
        self._rows = rows
        self._room(min(_FIRST, rows))
        self._heads: Growing[np.int64] = Growing(np.int64, _NONE)
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._windows: list[int] = []
        self._latest_us = 0
        self._disorder_us = 0  # the most that an impression came after one of a later time
        self.first = 0
        self.next = 0
        self.forgotten = 0
        self.erased: set[int] = set()  # rows blanked since the last snapshot

    def __len__(self) -> int:
        return self.next - self.first

    def watch(self, campaign: str, window_us: int) -> None:
        """Know the window of a campaign's cap, before anyone is shown it."""
        number = self._numbers.setdefault(campaign, len(self._names))
        if number == len(self._names):
            self._names.append(campaign)
            self._windows.append(window_us)
        self._windows[number] = window_us

    def shown(self, user: int, campaign: str, time_us: int) -> None:
        """Remember that a user was shown a campaign that is watched."""
        number = self._numbers[campaign]
        self._latest_us = max(self._latest_us, time_us)
        self._disorder_us = max(self._disorder_us, self._latest_us - time_us)
        if len(self) == self._rows:
            self._forget_oldest()
        elif self.next == len(self._user) < self._rows:
            self._grow()
        at = self.next % len(self._user)
        heads = self._heads.reserve(user + 1)
        self._user[at], self._campaign[at], self._time_us[at] = user, number, time_us
        self._before[at], heads[user] = heads[user], self.next
        self.next += 1

    def capped(
        self, user: int, now_us: int, campaigns: Mapping[str, CampaignRecord]
    ) -> frozenset[str]:
        """Campaigns that a user has been shown as often as their caps allow, by now.

        Parameters
        ----------
        user : int
            Number in the graph; -1 for an unknown one.
        campaigns : what is known of campaigns, whose caps and windows count
        """
        shown: dict[str, int] = {}
        for campaign, time_us in self._of(user, now_us):
            record = campaigns.get(campaign)
            if record is not None and time_us > now_us - record.window_us:
                shown[campaign] = shown.get(campaign, 0) + 1
        caps = {name: campaigns[name].cap for name in shown}
        return frozenset(n for n, cap in caps.items() if cap is not None and shown[n] >= cap)

    def erase(self, user: int) -> None:
        """Forget a user's impressions."""
        at = np.flatnonzero(self._user[: self.next] == user)
        self._user[at] = _NONE
        newest = self.next - 1
        self.erased.update((newest - (newest - at) % len(self._user)).tolist())
        self._heads.reserve(user + 1)[user] = _NONE

    # -- for snapshots

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.int32], list[str], NDArray[np.int64]]:
        """Users, campaigns and times of impressions by number, of those remembered."""
        at = np.arange(start, stop) % len(self._user)
        names = [self._names[n] for n in self._campaign[at].tolist()]
        return self._user[at], names, self._time_us[at]

    def restore(
        self,
        first: int,
        user: NDArray[np.int32],
        campaign: Sequence[str],
        time_us: NDArray[np.int64],
    ) -> None:
        """Put back what `rows` gave, of which the first has this number; all are watched."""
        skipped = max(0, len(user) - self._rows)
        user, time_us = user[skipped:], time_us[skipped:]
        self.first = first + skipped
        self.next = self.first + len(user)
        self._room(self._rows if self.first else min(self._rows, max(_FIRST, len(user))))
        sequence = np.arange(self.first, self.next)
        at = sequence % len(self._user)
        self._user[at] = user
        names = campaign[skipped:]
        self._campaign[at] = np.fromiter(map(self._numbers.__getitem__, names), np.int32, len(at))
        live = user >= 0
        self._link(user[live], sequence[live], time_us[live])

    def _link(
        self, user: NDArray[np.int32], sequence: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> None:
        """Times of impressions being put back, and which was its user's one before."""
        if not len(user):
            return
        at = sequence % len(self._user)
        self._time_us[at] = time_us
        latest = np.maximum.accumulate(np.append(self._latest_us, time_us))
        self._latest_us = int(latest[-1])
        self._disorder_us = max(self._disorder_us, int((latest[1:] - time_us).max()))
        order = np.argsort(user, kind="stable")
        who, when = user[order], sequence[order]
        same = np.append(False, who[1:] == who[:-1])
        self._before[at[order]] = np.where(same, np.append(_NONE, when[:-1]), _NONE)
        ends = np.append(~same[1:], True)
        self._heads.reserve(int(who[-1]) + 1)[who[ends]] = when[ends]

    def _of(self, user: int, now_us: int) -> list[tuple[str, int]]:
        """Campaign and time of a user's impressions that may still count, newest first."""
        heads = self._heads.data
        sequence = int(heads[user]) if 0 <= user < len(heads) else _NONE
        # What came before an impression is at most so much later than it.
        oldest_us = now_us - max(self._windows, default=0) - self._disorder_us
        found: list[tuple[str, int]] = []
        while sequence >= self.first:
            at = sequence % len(self._user)
            time_us = int(self._time_us[at])
            if time_us < oldest_us:
                break
            found.append((self._names[self._campaign[at]], time_us))
            sequence = int(self._before[at])
        return found

    def _forget_oldest(self) -> None:
        at = self.first % len(self._user)
        within_us = self._latest_us - self._windows[self._campaign[at]]
        self.forgotten += int(self._user[at] >= 0 and self._time_us[at] > within_us)
        self.first += 1

    def _room(self, n: int) -> None:
        self._user: NDArray[np.int32] = np.full(n, _NONE, np.int32)
        self._campaign: NDArray[np.int32] = np.zeros(n, np.int32)
        self._time_us: NDArray[np.int64] = np.zeros(n, np.int64)
        self._before: NDArray[np.int64] = np.full(n, _NONE, np.int64)

    def _grow(self) -> None:
        """Double the arrays: until the ring is full, an impression lies at its own number."""
        n = len(self._user)
        user, campaign, time_us, before = self._user, self._campaign, self._time_us, self._before
        self._room(min(self._rows, 2 * n))
        self._user[:n], self._campaign[:n] = user, campaign
        self._time_us[:n], self._before[:n] = time_us, before
