"""Who is no more, and has still to be buried in the index.

Vectors are not written while readers are ahead of what is known (`consumers.frontier`), snapshots
are: what waits is saved with them, or a point that nobody touches again would stay for ever. An
erased user's name must not outlive him in a file, so it is the id of his point that is saved, which
his tombstone tells as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from consumers.index import Space, point_id
from stream.state import JSON


@dataclass(frozen=True, slots=True)
class Gone:
    """Users that were erased and items that were removed.

    Attributes
    ----------
    users, items : names
    points : ids of points of users whose names are not known any more
    """

    users: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


NOBODY = Gone()


class Departed:
    """Those gone since the index was told last."""

    def __init__(self) -> None:
        self._users: dict[str, None] = {}
        self._items: dict[str, None] = {}
        self._points: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._items) + len(self._points)

    @property
    def gone(self) -> Gone:
        """All of them."""
        return Gone(tuple(self._users), tuple(self._items), tuple(self._points))

    def note(self, gone: Gone) -> None:
        """These as well."""
        self._users.update(dict.fromkeys(gone.users))
        self._items.update(dict.fromkeys(gone.items))
        self._points.update(dict.fromkeys(gone.points))

    def take(self) -> Gone:
        """All of them; the index is told now."""
        gone = self.gone
        for told in (self._users, self._items, self._points):
            told.clear()
        return gone

    def to_json(self) -> dict[str, JSON]:
        """For a snapshot, without the name of a user."""
        points = self._points | {point_id(Space.USERS, user): None for user in self._users}
        return {"points": [*points], "items": [*self._items]}

    def restore(self, said: JSON) -> None:
        """Put back what `to_json` gave; nothing of a snapshot that has none."""
        told = cast(Mapping[str, list[str]], said or {})
        points, items = (tuple(told.get(name, ())) for name in ("points", "items"))
        self.note(Gone(items=items, points=points))


def graves(
    space: Space, ids: Sequence[str], points: Sequence[str], *, epoch: int, sequence: int
) -> Iterator[tuple[str, dict[str, object]]]:
    """Ids and payloads of tombstones; that of an item holds its id, that of a user does not."""
    own: dict[str, object] = {"epoch": epoch, "seq": sequence, "deleted": True}
    for name in ids:
        yield point_id(space, name), {"id": name, **own} if space is Space.ITEMS else own
    for point in points:
        yield point, own
