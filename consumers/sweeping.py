"""Tombstones are deleted once no write of before can still arrive.

A tombstone keeps a late write from raising its point from the dead. It stays for an hour: hundreds
of times what a client waits for an answer, and long after a sleeping writer has lost its place.
"""

from consumers.logs import log
from consumers.publisher import Publisher

GRACE_US = 3_600_000_000


class Sweeper:
    """Has a publisher sweep now and then.

    Parameters
    ----------
    grace_us : int
        How long a tombstone stays, at least; it stays for less than twice that.
    """

    def __init__(self, grace_us: int = GRACE_US) -> None:
        self._grace_us = grace_us
        self._mark: tuple[int, int] | None = None  # a time, and the last sequence of then

    def look(self, publisher: Publisher, now_us: int) -> None:
        """Note where the sequence is, or delete tombstones from before the last note.

        Raises
        ------
        Superseded
            If a newer publisher has taken over.
        PublishError
            If they cannot be deleted.
        """
        if self._mark is not None and now_us - self._mark[0] < self._grace_us:
            return
        if self._mark is not None:
            publisher.sweep(self._mark[1])
            log.info("swept tombstones", before=self._mark[1])
        self._mark = now_us, publisher.mandate.next_sequence()
