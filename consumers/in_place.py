"""A version written into the collections that are live, where the spaces are as good as one.

It costs no second pair of collections and no flip. While points are replaced readers may hold users
of one version against items of the other: both ways that was measured before, and loses no more
than `Budgets.skew`. The version before is not kept: to return is to write its points again.
"""

from collections.abc import Iterator

from consumers.campaigns import Campaigns
from consumers.errors import PublishError
from consumers.filling import NO_POINTS
from consumers.index import Space
from consumers.live import LiveModel
from consumers.manifest_steps import Gates, Origin, Published, RolledBack
from consumers.points import all_points
from consumers.publisher import Publisher


def renew(publisher: Publisher, version: int, origin: Origin | None) -> None:
    """Record that what is live is of another version from here on; then write its points.

    Parameters
    ----------
    origin : Origin or None
        What the vectors are made from; None to return to the version before.

    Raises
    ------
    PublishError
        Nothing is live.
    Superseded
        If a newer publisher has taken over.
    """
    with publisher.mandate.writing() as published:
        live = published.live
        if live is None:
            raise PublishError(f"nothing is live that version {version} could be written into")
        pair = live.model_copy(update={"version": version})
        aliases = {publisher.names.items: pair.items, publisher.names.users: pair.users}
        sequence = publisher.mandate.next_sequence()
        if origin is None:
            publisher.record.append(
                RolledBack(collections=pair, aliases=aliases, sequence=sequence)
            )
            return
        items, users = (publisher.index.count(name) for name in (pair.items, pair.users))
        publisher.record.append(
            Published(
                collections=pair,
                origin=origin,
                aliases=aliases,
                sequence=sequence,
                gates=Gates(items=items, users=users, probes=0, k=0, overlap=1.0),
                how="delta",
            )
        )


def spread(publisher: Publisher, live: LiveModel, campaigns: Campaigns) -> Iterator[None]:
    """Write every point of a version that was recorded so, a chunk each time it is asked."""
    for space, points in all_points(live, campaigns):
        pair = (points, NO_POINTS) if space is Space.USERS else (NO_POINTS, points)
        publisher.push(*pair, version=live.version)
        yield
