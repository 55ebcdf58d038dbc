"""How long it takes from a message's arrival until its vectors can be found, of late and in all."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's parts, the last of which has none."""
LATELY = 64


@dataclass(slots=True)
class Freshness:
    """Of the refreshes of one program.

    A refresh is a poll that touched something, from its begin to the index's acknowledgement.

    Attributes
    ----------
    counts : list of int
        Refreshes by the bound they are under.
    total_s : float
    lately : the last 64, seconds
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0
    lately: deque[float] = field(default_factory=lambda: deque[float](maxlen=LATELY))

    def note(self, seconds: float) -> None:
        """Count a refresh."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds
        self.lately.append(seconds)

    @property
    def median_s(self) -> float | None:
        """Of late; None without any."""
        return median(self.lately) if self.lately else None


def cumulative(counts: Sequence[int]) -> list[tuple[str, float]]:
    """As Prometheus has it: each bound, and how many refreshes took at most so long."""
    names, below = [*map(str, BOUNDS_S), "+Inf"], 0
    out: list[tuple[str, float]] = []
    for name, count in zip(names, counts, strict=True):
        below += count
        out.append((name, float(below)))
    return out
