"""A cap on how much one user may add: a runaway user (a bot) must not own the graph."""

import numpy as np
from numpy.typing import NDArray

from stream.growing import Growing


class Degrees:
    """Counts each user's interactions in its current period of event time.

    A period is a calendar stretch of event time. An event of a later period than the user's
    current one begins that; an event of an earlier one counts in the current one. So a user adds
    at most ``cap`` edges a period, whatever the order.

    Parameters
    ----------
    cap : int
        Interactions a user and period.
    period_us : int, or None for one period without end
        In microseconds.
    """

    def __init__(self, cap: int, period_us: int | None) -> None:
        self._cap = cap
        self._period_us = period_us
        self.count: Growing[np.int32] = Growing(np.int32)
        self.period: Growing[np.int64] = Growing(np.int64, -1)

    def admit(self, user: NDArray[np.int32], time_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Count these events in order.

        Parameters
        ----------
        user : int32[n]
        time_us : int64[n]

        Returns
        -------
        bool[n]
            False for the events beyond the cap.
        """
        if not len(user):
            return np.ones(0, np.bool_)
        top = int(user.max()) + 1
        count, period = self.count.reserve(top), self.period.reserve(top)
        of = time_us // self._period_us if self._period_us else np.zeros(len(user), np.int64)
        order = np.argsort(user, kind="stable")
        who = user[order]
        starts = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
        sizes = np.diff(np.append(starts, len(who)))
        users = who[starts]
        admitted = np.ones(len(user), np.bool_)
        risky = count[users] + sizes > self._cap
        for i in np.flatnonzero(risky):
            mine = order[starts[i] : starts[i] + sizes[i]]
            admitted[mine] = self._one_by_one(int(users[i]), of[mine])
        calm = ~risky
        if calm.any():
            groups = np.repeat(calm, sizes)
            self._all_fit(users[calm], sizes[calm], of[order][groups], count, period)
        return admitted

    def _one_by_one(self, user: int, of: NDArray[np.int64]) -> list[bool]:
        count, period = int(self.count.data[user]), int(self.period.data[user])
        admitted: list[bool] = []
        for now in of.tolist():
            if now > period:
                period, count = now, 0
            admitted.append(count < self._cap)
            count = min(count + 1, self._cap)
        self.count.data[user], self.period.data[user] = count, period
        return admitted

    @staticmethod
    def _all_fit(
        users: NDArray[np.int32],
        sizes: NDArray[np.int64],
        of: NDArray[np.int64],
        count: NDArray[np.int32],
        period: NDArray[np.int64],
    ) -> None:
        """Count whole groups (consecutive runs of ``of``) that cannot reach the cap."""
        starts = np.append(0, np.cumsum(sizes)[:-1])
        before = period[users]
        final = np.maximum(np.maximum.reduceat(of, starts), before)
        # The first event of the final period starts its count; what follows it counts there too.
        reached = of == np.repeat(final, sizes)
        at = np.where(reached, np.arange(len(of)), len(of))
        first = np.minimum.reduceat(at, starts)
        moved = final > before
        count[users] = np.where(moved, starts + sizes - first, count[users] + sizes)
        period[users] = final
