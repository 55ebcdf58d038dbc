"""Back to the version before: what has changed since is written first, then readers return.

Readers leave one version's vectors as of now, and must not find the other's as of earlier events.
So its kept collections, which nobody reads, are brought up to date before the aliases move, in
numbered steps. A crash before the fourth leaves the version that was live:

1. write all items (each is as popular as it is now) and the users touched since, in chunks
2. bury what was removed meanwhile, write what was touched during 1
3. flip both aliases in one request, and read them back
4. record in the manifest that readers were taken back
"""

from collections.abc import Container, Iterator

import numpy as np

from consumers.index import PointBatch, Space
from consumers.joint import Joint
from consumers.live import LiveModel
from consumers.pipeline import Pipeline
from consumers.points import CHUNK, changes, item_points, user_points
from consumers.publisher import Publisher
from consumers.steps import Back


def go_back(pipeline: Pipeline, coming: LiveModel) -> Iterator[None]:
    """Serve an earlier version again, a chunk each time it is asked.

    One that readers see already (they were taken back while nobody ran) is written anew.

    Parameters
    ----------
    coming : LiveModel
        Under that version, as of now.

    Raises
    ------
    PublishError
        At once, if it is not kept.
    """
    publisher, number = pipeline.publisher, coming.version
    if publisher is None or publisher.live == number:
        coming.touch_all(pipeline.live)
        _take_over(pipeline, coming)
        return iter(())
    joint = publisher.begin_again(number)
    pipeline.trial.coming = coming
    return _brought_up(pipeline, publisher, coming, joint)


def _brought_up(
    pipeline: Pipeline, publisher: Publisher, coming: LiveModel, joint: Joint | None
) -> Iterator[None]:
    number, campaigns = coming.version, pipeline.campaigns
    try:
        for space, points in _stale(pipeline, pipeline.live, coming, publisher.spaces):
            publisher.refresh(number, {space: points})
            yield
        publisher.on_step(Back.WRITTEN)  # 1
        while joint is not None and joint.waits_for():
            yield
        users, items, gone = changes(coming, campaigns, publisher.spaces)
        publisher.refresh(number, {Space.USERS: users, Space.ITEMS: items}, gone)
        publisher.on_step(Back.CAUGHT_UP)  # 2
        publisher.rollback(number)  # 3, 4
    finally:
        pipeline.trial.coming = None
    _take_over(pipeline, coming)


def _take_over(pipeline: Pipeline, coming: LiveModel) -> None:
    pipeline.trial.forget()
    pipeline.serve(coming)


def _stale(
    pipeline: Pipeline, left: LiveModel, coming: LiveModel, spaces: Container[Space]
) -> Iterator[tuple[Space, PointBatch]]:
    """What the version returned to has not been told, as of the moment when each is asked for."""
    users = left.since_made(len(coming.graph.users))
    for start in range(0, len(users) if Space.USERS in spaces else 0, CHUNK):
        chunk = users[start : start + CHUNK]
        coming.refreshed(users=chunk)
        yield Space.USERS, user_points(coming, chunk)
    items = np.arange(len(coming.graph.items), dtype=np.int32)
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        coming.refreshed(items=chunk)
        yield Space.ITEMS, item_points(coming, chunk, pipeline.campaigns)
