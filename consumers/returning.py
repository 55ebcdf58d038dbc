"""Back to the version before: what has changed since is written first, then readers return.

Readers leave one version's vectors as of now, and must not find the other's as of earlier events.
So its kept collections, which nobody reads, are brought up to date before the aliases move, in
numbered steps. A crash before the fourth leaves the version that was live:

1. write all items (each is as popular as it is now) and the users touched since, in chunks
2. bury what was removed meanwhile, write what was touched during 1
3. flip both aliases in one request, and read them back
4. record in the manifest that readers were taken back
"""

from collections.abc import Iterator

import numpy as np

from consumers.index import PointBatch, Space
from consumers.live import LiveModel
from consumers.pipeline import Pipeline
from consumers.points import CHUNK, changes, item_points, user_points
from consumers.publisher import Publisher
from consumers.steps import Back
from consumers.versions import Version


def go_back(pipeline: Pipeline, version: Version) -> Iterator[None]:
    """Serve an earlier version again, a chunk each time it is asked.

    One that readers see already (they were taken back while nobody ran) is written anew.

    Raises
    ------
    PublishError
        At once, if it is not kept.
    """
    publisher, number = pipeline.publisher, version.number
    if publisher is None or publisher.live == number:
        coming = pipeline.live.successor(version)
        coming.touch_all()
        _take_over(pipeline, coming)
        return iter(())
    publisher.kept(number)
    pipeline.coming = pipeline.live.successor(version)
    return _brought_up(pipeline, publisher, pipeline.coming)


def _brought_up(pipeline: Pipeline, publisher: Publisher, coming: LiveModel) -> Iterator[None]:
    number, campaigns = coming.version, pipeline.campaigns
    for space, points in _stale(pipeline, pipeline.live, coming):
        publisher.refresh(number, {space: points})
        yield
    publisher.on_step(Back.WRITTEN)  # 1
    users, items, gone = changes(coming, campaigns)
    publisher.refresh(number, {Space.USERS: users, Space.ITEMS: items}, gone)
    publisher.on_step(Back.CAUGHT_UP)  # 2
    publisher.rollback(number)  # 3, 4
    _take_over(pipeline, coming)


def _take_over(pipeline: Pipeline, coming: LiveModel) -> None:
    pipeline.live, pipeline.coming = coming, None
    pipeline.evaluator.follow(coming)


def _stale(
    pipeline: Pipeline, left: LiveModel, coming: LiveModel
) -> Iterator[tuple[Space, PointBatch]]:
    """What the version returned to has not been told, as of the moment when each is asked for."""
    users = left.since_made(len(coming.graph.users))
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        coming.refreshed(users=chunk)
        yield Space.USERS, user_points(coming, chunk)
    items = np.arange(len(coming.graph.items), dtype=np.int32)
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        coming.refreshed(items=chunk)
        yield Space.ITEMS, item_points(coming, chunk, pipeline.campaigns)
