"""Whether the points of the live collections are what a version and the state make of them.

Every user and every item of the newest snapshot is made again, and its vector compared with the
stored one, float32 for float32, in every bit. Of a user whose vector may have moved without an
event of theirs since it was written (an item of theirs was placed or removed, or an event has left
the window), and of what waited to be written at the snapshot, the stored one may be that of before:
those are counted apart where they differ.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers import wiring
from consumers.errors import IndexLocked
from consumers.index import PointBatch, Space, VectorIndex
from consumers.live import LiveModel
from consumers.manifest import Line
from consumers.manifest_steps import Collections
from consumers.points import CHUNK, item_points, user_points
from consumers.publications import Publications
from consumers.settings import Settings
from consumers.shaping import WAITING_ITEMS, WAITING_USERS
from consumers.versions import Version
from model.config import ModelConfig
from stream.clock import Clock
from stream.histories import Histories
from stream.sink import NoLetters
from stream.state import JSON

Waiting = Mapping[str, NDArray[np.float64]]


@dataclass(slots=True)
class Compared:
    """Points of one space.

    Attributes
    ----------
    points : compared
    equal : with the same vector
    moved : with another one that may be that of before the last move
    first : the first that differs otherwise, or is not there
    """

    points: int = 0
    equal: int = 0
    moved: int = 0
    first: str | None = None

    def add(
        self,
        made: PointBatch,
        stored: Sequence[NDArray[np.float32] | None],
        moved: NDArray[np.bool_],
    ) -> None:
        """Compare a batch; ``moved`` says of which a difference means nothing."""
        for name, vector, there, may in zip(made.ids, made.vectors, stored, moved, strict=True):
            self.points += 1
            if there is not None and vector.tobytes() == there.tobytes():
                self.equal += 1
            elif there is not None and may:
                self.moved += 1
            elif self.first is None:
                self.first = name if there is None else _said(name, vector, there)

    @property
    def ok(self) -> bool:
        """Whether all are what they should be."""
        return self.equal + self.moved == self.points

    def to_json(self) -> dict[str, JSON]:
        """As plain JSON."""
        return {
            "points": self.points,
            "equal": self.equal,
            "moved_since_written": self.moved,
            "differ": self.points - self.equal - self.moved,
            "first": self.first,
        }


def compare_points(
    settings: Settings, version: Version, config: ModelConfig, lines: Sequence[Line], clock: Clock
) -> dict[Space, Compared] | str:
    """Compare the live collections with what this version makes of the newest snapshot.

    Parameters
    ----------
    version : Version
        Made again; it need not be in the state's folder.

    Returns
    -------
    Compared by space; or why nothing was compared
    """
    published = Publications()
    published.advance(lines)
    pair = published.live
    if pair is None or pair.version != version.number:
        live = "none" if pair is None else f"version {pair.version}"
        return f"points are compared for the live version only: {live} is"
    pipeline = wiring.open_pipeline(settings, config, None, NoLetters(), clock)
    try:
        if pipeline.live.version != version.number:
            return f"the newest snapshot is under version {pipeline.live.version}"
        arrays, waiting = pipeline.live.to_arrays(), pipeline.shaper.to_arrays()
        pipeline.live.use(version)
        pipeline.live.restore(arrays)
        with closing(wiring.open_index(settings)) as index:
            return _compare(pipeline.live, index, pair, waiting)
    except IndexLocked as error:
        return f"points are not compared: {error}"
    finally:
        pipeline.texts.close()


def _compare(
    live: LiveModel, index: VectorIndex, pair: Collections, waiting: Waiting
) -> dict[Space, Compared]:
    found = {space: Compared() for space in Space}
    for start in range(0, len(live.graph.users), CHUNK):
        users = np.arange(start, min(start + CHUNK, len(live.graph.users)), dtype=np.int32)
        users = users[[bool(live.graph.users.name(u)) for u in users.tolist()]]
        made = user_points(live, users)
        may = _may(live, users) | np.isin(users, waiting[WAITING_USERS])
        found[Space.USERS].add(made, _fetch(index, pair, Space.USERS, made.ids), may)
    for start in range(0, len(live.graph.items), CHUNK):
        items = np.arange(start, min(start + CHUNK, len(live.graph.items)), dtype=np.int32)
        items = items[~live.graph.catalog.removed(len(live.graph.items))[items]]
        made, may = item_points(live, items), np.isin(items, waiting[WAITING_ITEMS])
        found[Space.ITEMS].add(made, _fetch(index, pair, Space.ITEMS, made.ids), may)
    return found


def _fetch(
    index: VectorIndex, pair: Collections, space: Space, ids: Sequence[str]
) -> list[NDArray[np.float32] | None]:
    name = pair.items if space is Space.ITEMS else pair.users
    return [None if p is None else p.vector for p in index.fetch(name, space, ids)]


def _may(live: LiveModel, users: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whose vector may have moved without an event of theirs: bool[n]."""
    if live.config.user_neighbours:
        return np.ones(len(users), np.bool_)
    graph = live.graph
    everything = np.zeros(len(graph.items), np.bool_)
    beginning = np.iinfo(np.int64).min
    heads = graph.chains.heads.reserve(len(graph.users))
    # As far back as a history looks that has lost some of its events.
    all_of_them = Histories(graph.edges, graph.chains, beginning, everything)
    history = all_of_them.last(heads[users], 4 * live.context)
    unsettled = graph.catalog.removed(len(graph.items)).copy()
    unsettled[live.placed()] = True
    there = history.item >= 0
    old = there & (history.time_us < graph.horizon_us)
    hit = there & unsettled[np.where(there, history.item, 0)]
    moved: NDArray[np.bool_] = np.any(old | hit, axis=1)
    return moved


def _said(name: str, made: NDArray[np.float32], stored: NDArray[np.float32]) -> str:
    at = int(np.flatnonzero(made.view(np.uint32) != stored.view(np.uint32))[0])
    return f"{name}: number {at} is {made[at]!r}, stored is {stored[at]!r}"
