"""What a state and its vectors hold of one user: counted before an erasure, and after it."""

from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from consumers import finetuner, wiring
from consumers.errors import IndexLocked
from consumers.finding import INDEX, PLACES, Search, find, find_points
from consumers.index import Names, VectorIndex
from consumers.manifest import Manifest
from consumers.publications import Publications
from consumers.receipt import Row
from consumers.settings import Settings
from stream.clock import Clock
from stream.edges import ERASED
from stream.lookup import Lookup

EDGES: Final = "graph: edges"
CAPPED: Final = "frequency caps"
RETAINED: Final = "retained snapshots with the user"
LIVE, PREVIOUS, FILLING = "live collection", "previous collection", "collections being filled"
_HELD: Final = "held open by the program that runs: end it, and erase again"


@dataclass(slots=True)
class Stock:
    """What there is of a user.

    Attributes
    ----------
    number : int
        Of the user in the newest snapshot; -1 for none.
    now_us : int
        Event time of that snapshot.
    edges, capped : int
        Edges of that number that are not blank, and impressions towards caps.
    items : int
        Items of those edges.
    search : of all files
    points : place -> points of the user; None where the index is held by another process
    """

    number: int = -1
    now_us: int = 0
    edges: int = 0
    capped: int = 0
    items: int = 0
    search: Search = field(default_factory=Search)
    points: dict[str, int] | None = None


def take_stock(settings: Settings, user: str, clock: Clock, number: int | None = None) -> Stock:
    """Count what there is of a user.

    Parameters
    ----------
    number : int, optional
        The number that the user had, if that is known from before.

    Raises
    ------
    StateError
        There is no snapshot.
    """
    stock = Stock(search=find(settings.state, user))
    _count_graph(stock, settings, user, number)
    with vectors(settings) as index:
        if index is not None:
            stock.points = {
                place: find_points(index, names, user, stock.search)
                for place, names in collections(settings, index, clock).items()
            }
    return stock


def _count_graph(stock: Stock, settings: Settings, user: str, number: int | None) -> None:
    snapshot = finetuner.newest_graph(settings.graph_dir, settings.window_us)
    stock.now_us = snapshot.view.now_us
    known = int(snapshot.users.find([user])[0])
    stock.number = known if known >= 0 or number is None else number
    if stock.number < 0:
        return
    items: set[int] = set()
    for piece in snapshot.view.slices:
        own = (piece.user == stock.number) & (piece.kind != ERASED)
        stock.edges += int(np.count_nonzero(own))
        items.update(piece.item[own].tolist())
    stock.items = len(items)
    stock.capped = Lookup(settings.graph_dir).capped(stock.number)


@contextmanager
def vectors(settings: Settings) -> Generator[VectorIndex | None]:
    """The index; None where it was never made, or another process has it open."""
    index = None
    if settings.qdrant is not None or (settings.state / "index").is_dir():
        with suppress(IndexLocked):
            index = wiring.open_index(settings)
    if index is None:
        yield None
        return
    with closing(index):
        yield index


def collections(settings: Settings, index: VectorIndex, clock: Clock) -> dict[str, list[str]]:
    """Collections of users that are this state's, by what they are to it."""
    path, state = settings.state / "manifest.jsonl", Publications()
    if path.exists():
        with closing(Manifest(path, clock)) as manifest:
            state.advance(manifest.lines)
    present = set(index.collections())
    live = {state.live.users} if state.live is not None else set[str]()
    previous = {state.previous.users} if state.previous is not None else set[str]()
    prefix = f"{Names.of(settings.collection).users}-"
    filling = {name for name in state.owned - live - previous if name.startswith(prefix)}
    return {
        LIVE: sorted(live & present),
        PREVIOUS: sorted(previous & present),
        FILLING: sorted(filling & present),
    }


def rows(settings: Settings, before: Stock, after: Stock) -> list[Row]:
    """The places of a receipt."""
    number = "newest snapshot"
    out = [
        Row(EDGES, before.edges, after.edges, number, _pseudonym(before)),
        Row(CAPPED, before.capped, after.capped, "newest snapshot"),
        Row(RETAINED, before.search.snapshots, after.search.snapshots, "search of files"),
    ]
    held = before.search.rows(), after.search.rows()
    for place in PLACES:
        if place != INDEX or settings.qdrant is None:
            out.append(_of_files(place, *held, locked=place == INDEX and after.points is None))
    where = "the server" if settings.qdrant is not None else "the engine"
    made = settings.qdrant is not None or (settings.state / "index").is_dir()
    for place in (LIVE, PREVIOUS, FILLING):
        had, has = (_points(stock, place, made=made) for stock in (before, after))
        said = _HELD if has is None else ""
        out.append(Row(place, had, has, f"{where}: point and ids", said))
    return out


def _of_files(place: str, before: Counter[str], after: Counter[str], *, locked: bool) -> Row:
    left = f"{_HELD}" if locked and after[place] else ""
    return Row(place, before[place], after[place], "search of files", left)


def _points(stock: Stock, place: str, *, made: bool) -> int | None:
    if stock.points is None:
        return None if made else 0
    return stock.points.get(place, 0)


def _pseudonym(before: Stock) -> str:
    return "" if before.number < 0 else "blank rows of a number without a name"
