"""Vectors as points: what of a user or an item an ad system can search and filter by."""

from collections.abc import Container, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from consumers.campaigns import Campaigns
from consumers.gone import Gone
from consumers.index import PointBatch, Space, item_payload
from consumers.live import LiveModel
from stream.catalog import ItemRecord

CHUNK = 2_048  # a live stream waits for one
BOTH = tuple(Space)


def user_points(live: LiveModel, users: NDArray[np.int32]) -> PointBatch:
    """Points of these users; the erased ones among them are left out."""
    names = [live.graph.users.name(number) for number in users.tolist()]
    kept = np.array([i for i, name in enumerate(names) if name], np.int64)
    ids = [names[i] for i in kept.tolist()]
    return PointBatch(ids, live.user_vectors(users[kept]), [{}] * len(ids))


def item_points(
    live: LiveModel, items: NDArray[np.int32], campaigns: Campaigns | None = None
) -> PointBatch:
    """Points of these items, with the state of their campaigns; removed ones are left out."""
    items = items[~live.graph.catalog.removed(len(live.graph.items))[items]]
    ids = [live.graph.items.name(number) for number in items.tolist()]
    known = live.graph.catalog.items
    payloads = [_payload(known.get(number), campaigns) for number in items.tolist()]
    return PointBatch(ids, live.item_vectors(items), payloads)


def changes(
    live: LiveModel, campaigns: Campaigns | None = None, spaces: Container[Space] = BOTH
) -> tuple[PointBatch, PointBatch, Gone]:
    """Points of the users and items touched since the last call, and the ids of those gone.

    Parameters
    ----------
    spaces : what is written here; where users are not, none are made
    """
    touched, gone = live.take_touched()
    written = touched.users if Space.USERS in spaces else touched.users[:0]
    return user_points(live, written), item_points(live, touched.items, campaigns), gone


def all_points(
    live: LiveModel, campaigns: Campaigns | None = None, spaces: Container[Space] = BOTH
) -> Iterator[tuple[Space, PointBatch]]:
    """Everything there is, in chunks, as of the moment when each is asked for.

    Items last: many of them are touched all the time, and what is touched later is written twice.

    Parameters
    ----------
    spaces : as for `changes`
    """
    for chunk in _chunks(len(live.graph.users) if Space.USERS in spaces else 0):
        live.refreshed(users=chunk)
        yield Space.USERS, user_points(live, chunk)
    for items in _chunks(len(live.graph.items)):
        live.refreshed(items=items)
        yield Space.ITEMS, item_points(live, items, campaigns)


def _chunks(n: int) -> Iterator[NDArray[np.int32]]:
    for start in range(0, n, CHUNK):
        yield np.arange(start, min(start + CHUNK, n), dtype=np.int32)


def _payload(record: ItemRecord | None, campaigns: Campaigns | None) -> Mapping[str, object]:
    if record is None:
        return {}
    told = {} if campaigns is None else campaigns.fields(record.campaign_id)
    return {name: value for name, value in told.items() if value is not None} | item_payload(
        title=record.title,
        campaign=record.campaign_id,
        categories=record.categories,
        price=record.price,
        expires_us=record.expires_us,
    )
