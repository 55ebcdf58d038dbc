"""A watchdog over a consumer that can fall silent without an error.

A client that stops returning records after a rebalance, and a broker that is gone, both look like a
quiet topic. So silence is checked against the broker's own end offsets.
"""

from collections.abc import Collection, Iterable, Mapping

from stream.batch import Partition
from stream.clock import Clock
from stream.errors import SourceError


class StallWatch:
    """Tell a quiet topic from a stalled partition and from a broker that is gone.

    Parameters
    ----------
    clock : Clock
    stall_after_s : float
        Silence of a partition that has more to read, or of the broker, beyond which to stop.
    check_every_s : float
        Silence of a partition after which the broker is asked; and how often.
    """

    def __init__(self, clock: Clock, stall_after_s: float, check_every_s: float) -> None:
        self._clock = clock
        self._stall_after_us = int(stall_after_s * 1e6)
        self._check_every_us = int(check_every_s * 1e6)
        self._moved_us: dict[Partition, int] = {}
        self._asked_us = clock.now_us()
        self._answered_us = clock.now_us()
        self._gone_us: dict[str, int] = {}

    def moved(self, partitions: Iterable[Partition]) -> None:
        """Note that these partitions gave records, or begin to be waited for."""
        now = self._clock.now_us()
        for partition in partitions:
            self._moved_us[partition] = now

    def silent(self, assigned: Iterable[Partition]) -> list[Partition]:
        """Return the partitions to ask the broker about now; mostly none."""
        now = self._clock.now_us()
        if now - self._asked_us < self._check_every_us:
            return []
        self._asked_us = now
        since = now - self._check_every_us
        return [p for p in assigned if self._moved_us.setdefault(p, now) <= since]

    def answered(self, lags: Mapping[Partition, int]) -> None:
        """Take the broker's word on how many messages silent partitions still have.

        Raises
        ------
        SourceError
            If one of them has had more to read for longer than is allowed.
        """
        now = self._clock.now_us()
        self._answered_us = now
        for partition, lag in lags.items():
            if lag <= 0:
                self._moved_us[partition] = now
                continue
            silent_us = now - self._moved_us.get(partition, now)
            if silent_us >= self._stall_after_us:
                raise SourceError(
                    f"{partition} is stalled: {lag} messages to read, none came for "
                    f"{silent_us / 1e6:.0f} s; restart to rejoin the group from the saved position"
                )

    def unanswered(self, bootstrap: str, why: Exception) -> None:
        """Note that the broker did not answer when asked.

        Raises
        ------
        SourceError
            If it has not for longer than is allowed.
        """
        silent_us = self._clock.now_us() - self._answered_us
        if silent_us >= self._stall_after_us:
            raise SourceError(
                f"Kafka at {bootstrap} has not answered for {silent_us / 1e6:.0f} s ({why!r}); "
                "is the broker running? Nothing is lost: restart to go on from the saved position"
            ) from why

    def gone(self, topics: Collection[str]) -> None:
        """Note which topics the cluster does not tell of.

        Raises
        ------
        SourceError
            If it has not told of one for longer than is allowed.
        """
        now = self._clock.now_us()
        self._gone_us = {topic: self._gone_us.get(topic, now) for topic in topics}
        for topic, since in self._gone_us.items():
            if now - since >= self._stall_after_us:
                raise SourceError(
                    f"topic {topic} has been gone for {(now - since) / 1e6:.0f} s: deleted, or "
                    "hidden from this user. Restore it, or start with a new state"
                )

    def heard(self) -> None:
        """Note that the broker gave something."""
        self._answered_us = self._clock.now_us()
