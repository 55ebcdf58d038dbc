"""One deadline, made where the wait begins and handed down, so that nobody invents a timeout."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock by which something must have happened.

    Attributes
    ----------
    at_s : float
        Seconds on the scale of ``now_s``.
    now_s : callable
        The monotonic clock, in seconds.
    """

    at_s: float
    now_s: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, now_s: Callable[[], float] = time.monotonic) -> "Deadline":
        """Make a deadline ``seconds`` from now."""
        return cls(now_s() + seconds, now_s)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self.at_s - self.now_s())

    @property
    def remaining_ms(self) -> int:
        """Milliseconds left, at least 1 so that a client never reads "no timeout" into it."""
        return max(1, int(self.remaining_s * 1_000))

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_s <= 0.0
