"""Why an item is where it is: of which version and write its vector is, and made from what."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from consumers import wiring
from consumers.chronicle import read
from consumers.errors import SettingsError, UnknownPoint
from consumers.index import Space, Stored, to_rfc3339
from consumers.live import LiveModel
from consumers.mandate import GENERATION_BITS
from consumers.manifest import Line
from consumers.manifest_steps import Collections, Opened, Published
from consumers.publications import Publications
from consumers.settings import Settings
from stream.batch import Kind
from stream.clock import Clock
from stream.edges import codes, live
from stream.graph import Graph
from stream.sink import NoLetters
from stream.state import JSON


def why(settings: Settings, item: str, clock: Clock) -> dict[str, JSON]:
    """What an item's point in the live collection is, and what it was made from.

    Raises
    ------
    SettingsError
        Nothing is live, or there is no state.
    UnknownPoint
        The live collection has no such item.
    """
    lines = read(settings.manifest, clock)
    published = Publications()
    published.advance(lines)
    pair = published.live
    if pair is None:
        raise SettingsError(f"{settings.manifest}: no version is live")
    with closing(wiring.open_index(settings)) as index:
        [stored] = index.fetch(pair.items, Space.ITEMS, [item])
    if stored is None:
        raise UnknownPoint(f"{pair.items}: no such item: {item[:80]!r}")
    letters = NoLetters()
    pipeline = wiring.open_pipeline(settings, settings.hyper_parameters(), None, letters, clock)
    try:
        return {
            "item": item,
            "collection": pair.items,
            "version": int(str(stored.payload["epoch"])),
            **_written(lines, pair, stored),
            **_made_of(pipeline.live, item, stored),
            "state_offsets": {str(p): at for p, at in pipeline.state.positions.items()},
        }
    finally:
        pipeline.texts.close()


def _written(lines: Sequence[Line], pair: Collections, stored: Stored) -> dict[str, JSON]:
    """Which write it is of: the fill of the version, or one that came after."""
    sequence = int(str(stored.payload["seq"]))
    generation = sequence >> GENERATION_BITS
    flips = [
        (line, line.body)
        for line in lines
        if isinstance(line.body, Published) and line.body.collections == pair
    ]
    line, flip = flips[-1]
    filled = sequence <= flip.sequence
    opened = [x for x in lines if isinstance(x.body, Opened)]
    since = [x.at for x in opened if isinstance(x.body, Opened) and x.body.generation == generation]
    until = [x.at for x in opened if isinstance(x.body, Opened) and x.body.generation > generation]
    began = [x.at for x in lines if x.number <= line.number and _begins(x, pair)]
    times = (began, [line.at]) if filled else ([max([line.at, *since])], until)
    return {
        "sequence": sequence,
        "publisher": generation,
        "write": sequence & ((1 << GENERATION_BITS) - 1),
        "written_by": "the fill of its version" if filled else "an event or campaign after that",
        "written_after": times[0][-1] if times[0] else None,
        "written_before": times[1][0] if times[1] else None,
        "filled_from_offsets": dict(flip.origin.offsets),
    }


def _begins(line: Line, pair: Collections) -> bool:
    return line.body.step == "begun" and line.body.collections == pair


def _made_of(served: LiveModel, item: str, stored: Stored) -> dict[str, JSON]:
    graph = served.graph
    number = int(graph.items.find([item])[0])
    if number < 0 or not served.ready:
        return {"known": False}
    counted = _edges(graph, number)
    now = served.item_vectors(np.array([number], np.int32))[0]
    vector = stored.vector
    return {
        "known": True,
        "removed": stored.deleted,
        "vector_of": served.known_by(number),
        "popularity_coordinate": None if vector is None else float(vector[-1]),
        "popularity_coordinate_now": float(now[-1]),
        "as_the_state_has_it": vector is not None and bool(np.array_equal(vector, now)),
        "edges": sum(counted.kinds.values()),
        "edges_by_kind": {**counted.kinds},
        "last_event": None if counted.last_us is None else to_rfc3339(counted.last_us),
    }


@dataclass(frozen=True, slots=True)
class _Counted:
    kinds: dict[str, int]
    last_us: int | None


def _edges(graph: Graph, item: int) -> _Counted:
    """Edges of an item that are in the graph, by kind, and the time of the latest."""
    counts, last = np.zeros(int(Kind.ITEM), np.int64), -1
    for piece in graph.edges.slices():
        at = np.flatnonzero(
            (piece.item == item) & live(piece.kind) & (piece.time_us >= graph.horizon_us)
        )
        if len(at):
            counts += np.bincount(codes(piece.kind[at]), minlength=len(counts))
            last = max(last, int(piece.time_us[at].max()))
    kinds = {Kind(k).name.lower(): int(counts[k]) for k in np.flatnonzero(counts).tolist()}
    return _Counted(kinds, None if last < 0 else last)
