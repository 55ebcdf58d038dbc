"""That the users of a stream are written by others: members of a group, a lane for each partition.

Who sees all events (`goat ingest --members`) writes items and campaigns, begins versions and flips
to them; `goat member` writes users. A version goes live when each partition's users are in it.
"""

from dataclasses import dataclass
from zlib import crc32

from stream.state import State


@dataclass(frozen=True, slots=True)
class Members:
    """What of the whole stream must be known to wait for those who write users.

    Parameters
    ----------
    state : State
    """

    state: State

    def lanes(self) -> list[str]:
        """Of each partition that has had an event."""
        return sorted(map(str, self.state.positions))

    def some_users(self, count: int) -> list[str]:
        """So many of the users, chosen by their ids alone."""
        return sorted(filter(None, self.state.graph.users.names), key=_spread)[:count]


def _spread(name: str) -> int:
    return crc32(name.encode())
