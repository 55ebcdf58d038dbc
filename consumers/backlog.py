"""Whether the index keeps up with what is written to it.

Each write of an item takes it out of the graph that searches walk, until the optimiser has worked
it in again; until then it is scanned. A server that works at a long backlog answers slowly, and
each further write makes it longer.
"""

from consumers.index import Backlog
from consumers.logs import log
from consumers.publisher import Publisher

LOOK_EVERY_US = 5_000_000
_NOTHING = Backlog(0, at_work=False)


class BacklogWatch:
    """Looks at the items' collection now and then.

    Parameters
    ----------
    bound : int
        Points from which a backlog is long.

    Attributes
    ----------
    last : Backlog
        As of the last look.
    long : bool
        Whether writes are better held back.
    """

    def __init__(self, bound: int) -> None:
        self.last = _NOTHING
        self.long = False
        self._bound = bound
        self._looked_us: int | None = None

    def look(self, publisher: Publisher, now_us: int) -> bool:
        """Look, if the last time is a while ago; whether writes are better held back.

        Raises
        ------
        PublishError
            If the collection's optimiser has failed.
        """
        if self._looked_us is not None and now_us - self._looked_us < LOOK_EVERY_US:
            return self.long
        self._looked_us = now_us
        self.last = publisher.index.backlog(publisher.names.items)
        long = self.last.at_work and self.last.points > self._bound
        if long and not self.long:
            log.warning("the index is behind: items are held back", points=self.last.points)
        elif self.long and not long:
            log.info("the index has caught up", points=self.last.points)
        self.long = long
        return long
