"""A version whose users members write: what of it must be there before it goes live."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.index import Space, VectorIndex
from consumers.manifest_steps import Collections
from consumers.members import Members
from consumers.publications import Publications


@dataclass(slots=True)
class Joint:
    """The users of a version, written by members while it is filled with items.

    Parameters
    ----------
    members : Members
    published : Publications
        Advanced by the publisher.
    index : VectorIndex
    pair : Collections

    Attributes
    ----------
    erased : int
        Users erased since it was begun.
    users : int
        Those found when it was last asked.
    waiting : str or None
        What was not there then.
    """

    members: Members
    published: Publications
    index: VectorIndex
    pair: Collections
    erased: int = 0
    users: int = 0
    waiting: str | None = None

    def waits_for(self) -> str | None:
        """What is not there yet; None where all users are."""
        self.waiting = self._missing()
        return self.waiting

    def _missing(self) -> str | None:
        lanes = self.members.lanes()
        if missing := self.published.missing(lanes):
            return f"members have not written the users of {', '.join(missing)}"
        told = sum(self.published.filled[lane].users for lane in lanes)
        found = self.users = self.index.count(self.pair.users)
        if found < told - self.erased:
            return f"{self.pair.users} holds {found:,} users, members have written {told:,}"
        return None

    def probes(self, count: int) -> list[tuple[str, NDArray[np.float32]]]:
        """So many users, with their vectors as they are stored."""
        names = self.members.some_users(count)
        stored = self.index.fetch(self.pair.users, Space.USERS, names)
        return [
            (name, point.vector)
            for name, point in zip(names, stored, strict=True)
            if point is not None and point.vector is not None
        ]
