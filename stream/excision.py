"""Rules that leave events out: whoever is found to be a bot is as if it had never come.

A rule names users by a glob and a stretch of event time. What it leaves out is not applied, does
not move a watermark, and is not remembered as seen; it is counted. Rules are part of a state, so
that a replay from earlier offsets leaves out the same events again. Only interactions are left
out: a user's erasure never is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate

import numpy as np
from numpy.typing import NDArray

from stream.batch import EventBatch, Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """Events that are left out.

    Attributes
    ----------
    users : str
        Glob of users' ids: ``*``, ``?``, ``[…]``; upper and lower case differ.
    from_us, to_us : int
        Event times from the first up to, not including, the second, microseconds since the epoch.
    """

    users: str
    from_us: int
    to_us: int

    def __post_init__(self) -> None:
        if not self.users:
            raise ValueError("an empty glob matches nobody")
        if self.from_us >= self.to_us:
            raise ValueError(f"from {self.from_us} us up to {self.to_us} us is no time at all")

    def names(self, users: Sequence[str]) -> set[str]:
        """Those of these users that the glob matches."""
        match = re.compile(translate(self.users)).match
        return {user for user in set(users) if user and match(user)}


def left_out(rules: Sequence[Rule], batch: EventBatch) -> NDArray[np.bool_]:
    """Which events of a batch the rules leave out: bool[n].

    A glob is held against each user once, and only against those with an event in its time.
    """
    out = np.zeros(len(batch), np.bool_)
    acts = batch.kind < Kind.ITEM
    for rule in rules:
        inside = acts & (batch.time_us >= rule.from_us) & (batch.time_us < rule.to_us)
        at = np.flatnonzero(inside)
        if len(at):
            users = [batch.user[i] for i in at.tolist()]
            names = rule.names(users)
            out[at] |= np.fromiter((user in names for user in users), np.bool_, len(users))
    return out
