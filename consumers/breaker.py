"""Not asking what does not answer: who waits for it in vain keeps others waiting."""

import threading

from stream.clock import Clock

FAILURES = 5
REST_US = 1_000_000


class Breaker:
    """Lets nobody ask for a while after several failures in a row, then one, to see.

    Parameters
    ----------
    clock : Clock
    failures : int
        In a row, before it opens.
    rest_us : int
        How long it stays open, microseconds.

    Attributes
    ----------
    held : bool
        An operator's word: nobody asks until it is taken back.
    """

    def __init__(self, clock: Clock, *, failures: int = FAILURES, rest_us: int = REST_US) -> None:
        self.held = False
        self._clock = clock
        self._most = failures
        self._rest_us = rest_us
        self._failures = 0
        self._until_us = 0
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether nobody asks now."""
        return self.held or self._clock.now_us() < self._until_us

    def allows(self) -> bool:
        """Whether to ask now; of those who come when a rest is over, one is let through."""
        with self._lock:
            now_us = self._clock.now_us()
            if self.held or now_us < self._until_us:
                return False
            if self._failures >= self._most:
                self._until_us = now_us + self._rest_us
            return True

    def succeeded(self) -> None:
        """An answer came."""
        if self._failures:
            with self._lock:
                self._failures = self._until_us = 0

    def failed(self) -> None:
        """None came."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._most:
                self._until_us = self._clock.now_us() + self._rest_us
