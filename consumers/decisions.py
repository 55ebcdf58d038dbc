"""What was decided about a version, with the numbers it was decided by: lines of the manifest."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["hold", "publish", "refuse", "keep", "roll_back"]
How = Literal["flip", "delta"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Value):
    """Mean difference of Recall@20, the new version's minus the other's, and its bounds.

    Attributes
    ----------
    events : int
        Clicks on which both were asked.
    mean : float or None
        None without events.
    low, high : float
        They hold at all times at once; -1 and 1 while nothing is known.
    """

    events: int
    mean: float | None
    low: float
    high: float


class Skew(_Value):
    """Users and items of two versions against each other, on the last clicks that were scored.

    Attributes
    ----------
    events : int
    new, old : float or None
        Recall@20 of each version with itself.
    new_users, old_users : float or None
        Of the new version's users on the old one's items, and of the old one's on the new one's.
    own : Interval
        Of ``new`` minus ``old``. The new version may have learned from these clicks: what it loses
        it loses all the same.
    rows : int
        Items that both have learned.
    moved, residual, degrees : float
        How far their vectors moved, the same after the best rotation, and its angle; see
        `model.rotation.Turn`.
    """

    events: int
    new: float | None
    old: float | None
    new_users: float | None
    old_users: float | None
    own: Interval
    rows: int
    moved: float
    residual: float
    degrees: float

    @property
    def loss(self) -> float | None:
        """What a reader loses at most that has users of one version and items of the other."""
        if self.old is None or self.new_users is None or self.old_users is None:
            return None
        return self.old - min(self.new_users, self.old_users)


class Stability(_Value):
    """Top-20 lists of the same users under both versions.

    Attributes
    ----------
    users : int
    overlap : float
        Mean share of a list that is in the other, 0 to 1.
    churned : float
        Share of lists of which less than half is in the other.
    """

    users: int
    overlap: float
    churned: float


class Decided(_Value):
    """A version was held, published, refused, kept or taken back, and why.

    Attributes
    ----------
    version, against : int
        The new one, and the one that it was held against; 0 for none.
    how : "flip" or "delta"
        Into collections of its own, or written into those that are live.
    margin, cold_margin : float
        Recall@20 that may be lost, of all clicks and of those on cold items.
    chance : float
        Of a harmless version's ever being turned away.
    every, cold : Interval or None
        Of all clicks that came since, each asked before it was learned from, and of those on items
        that the new version knows little of.
    """

    step: Literal["decided"] = "decided"
    version: int
    against: int
    verdict: Verdict
    how: How
    why: str
    margin: float
    cold_margin: float
    chance: float
    skew: Skew | None = None
    stability: Stability | None = None
    every: Interval | None = None
    cold: Interval | None = None

    @property
    def turned_away(self) -> bool:
        """Whether readers are not to see this version."""
        return self.verdict in ("refuse", "roll_back")
