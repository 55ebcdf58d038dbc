"""Time as an argument: nobody else asks the operating system what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where wall time comes from."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that moves only when told to.

    Parameters
    ----------
    now_us : int
        Start, in microseconds since the Unix epoch.
    """

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def advance(self, us: int) -> None:
        """Move forward by ``us`` microseconds.

        Raises
        ------
        ValueError
            If ``us`` is negative: a clock that goes back hides faults.
        """
        if us < 0:
            raise ValueError(f"a clock only advances: got {us} us")
        self._now_us += us
