"""All that a run of the stream must not forget, and what of it is new since it was saved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream import ledger_table
from stream.batch import Decoded, Partition, RecordBatch
from stream.catalog import Catalog
from stream.catalog_table import campaign_table, item_table
from stream.edges import EdgeRows
from stream.graph import Graph
from stream.ledger_table import ledger_changes
from stream.ordering import Orderer
from stream.segments import Change, Logs, Table
from stream.topic import Topic
from stream.veil import MARK, Veil
from stream.vocabulary import Vocabulary
from stream.window import IdTable, IdWindow

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

CHUNK = 65_536  # rows of a sealed segment of edges or names


@dataclass(slots=True)
class State:
    """The graph, what admits events to it, where the sources are, and what others add.

    Attributes
    ----------
    positions : partition -> next offset to read
        Of the sources whose effect the graph holds.
    begun : partition -> first offset read
        Where that effect begins; a partition that an earlier program began is not in it.
    topics : name -> which topic it is
        Of what was read from Kafka; whoever reads keeps it.
    numbering : int
        Goes up when the state is rebuilt: numbers of users, items and edges mean others then.
    extra : plain JSON by name
    arrays : small arrays by name, written whole whenever they have changed
    saved_as : str
        Checksum of the snapshot that this state was last saved to or loaded from.
    veil : Veil
        Remembered ids that held the name of an erased user.
    """

    graph: Graph
    orderer: Orderer
    positions: dict[Partition, int] = field(default_factory=dict[Partition, int])
    extra: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    arrays: Mapping[str, NDArray[np.generic]] = field(
        default_factory=dict[str, NDArray[np.generic]]
    )
    saved_as: str = ""
    veil: Veil = field(default_factory=Veil)
    begun: dict[Partition, int] = field(default_factory=dict[Partition, int])
    topics: dict[str, Topic] = field(default_factory=dict[str, Topic])
    numbering: int = 0

    def recognised(self, decoded: Decoded) -> Decoded:
        """The same events, with the ids that are hidden under the names they are known by."""
        events = self.veil.over(decoded.events)
        return decoded if events is decoded.events else replace(decoded, events=events)

    def hide(self) -> None:
        """Hide what names a user that was erased since `mark_saved` in the ids remembered."""
        names = sorted(self.graph.forgotten)
        if names:
            for window in windows(self).values():
                window.hide(lambda ids: self.veil.hidden(ids, names))

    def restored(self) -> None:
        """The windows are as they were saved: know what is hidden in them."""
        for window in windows(self).values():
            self.veil.know(window.beginning(MARK))

    def mark_saved(self) -> None:
        """All changes so far are on disk."""
        self.graph.mark_saved()
        for window in windows(self).values():
            window.renamed.clear()

    def moved(self, batch: RecordBatch) -> None:
        """All of a batch has had its effect."""
        if batch.partition not in self.positions:
            first = batch.offsets[0] if len(batch) else batch.next_offset
            self.begun[batch.partition] = int(first)
        self.positions[batch.partition] = batch.next_offset


def lane_log(window: str, partition: Partition) -> str:
    """The log of one partition's lane of a window."""
    return f"{window}/{partition.number}/{partition.topic}"


def windows(state: State) -> dict[str, IdWindow | IdTable]:
    """The windows of remembered ids, by the name of their logs."""
    joins = state.graph.joins
    return {
        "seen": state.orderer.seen,
        "pending": joins.pending,
        "ahead": joins.ahead,
        "waiting": joins.waiting,
    }


def changes(state: State, logs: Logs) -> Iterator[Change]:
    """What must be written so that ``logs``, which hold an earlier state, hold this one."""
    graph = state.graph
    yield from _edge_changes(graph, logs)
    yield from _name_changes("users", graph.users, logs)
    yield from _name_changes("items", graph.items, logs)
    yield from _degree_changes(graph, logs)
    yield from _catalog_changes(graph.catalog, logs)
    yield from ledger_changes(graph.ledger, logs)
    for name, window in windows(state).items():
        yield from _window_changes(name, window, logs)
    for name, array in state.arrays.items():
        yield Change(f"array/{name}", 0, 0, _array_table(array), whole=True)


def first_chunks(state: State) -> dict[str, int]:
    """The oldest chunk that is still needed, of the logs whose old ones are not."""
    first = {"edges": state.graph.edges.first // CHUNK}
    first[ledger_table.CAPS] = state.graph.ledger.caps.first // ledger_table.CHUNK
    for name, window in windows(state).items():
        for partition in window.lanes.rows():
            first[lane_log(name, partition)] = min(window.sizes(partition), default=1 << 62)
    return first


def rows_in(logs: Logs, log: str, chunk: int) -> int:
    """Rows of a chunk that a log holds."""
    return sum(p.rows for p in logs.get(log, ()) if p.chunk == chunk)


def end_of(logs: Logs, log: str) -> int:
    """Number of the row after the last that a log holds."""
    pieces = logs.get(log, ())
    return pieces[-1].start + pieces[-1].rows if pieces else 0


def _edge_changes(graph: Graph, logs: Logs) -> Iterator[Change]:
    edges = graph.edges
    written = max(end_of(logs, "edges"), edges.first)
    dirty = {s // CHUNK for s in graph.erased if edges.first <= s < written}
    if edges.first > end_of(logs, "edges"):
        dirty.add(edges.first // CHUNK)  # edges came and went unsaved: no piece may bridge them
    fold = rows_in(logs, "amendments", 0) > max(CHUNK, len(edges) // 4)
    if fold:
        # Enough has been amended to pay for writing every edge once more.
        dirty = set(range(edges.first // CHUNK, -(-written // CHUNK)))
        yield Change("amendments", 0, 0, _amendment_table(graph, []), whole=True)
    fresh = range(written // CHUNK, -(-edges.next // CHUNK)) if edges.next > written else range(0)
    for chunk in sorted(dirty | set(fresh)):
        whole = chunk in dirty
        start = max(chunk * CHUNK, edges.first if whole else written)
        stop = min((chunk + 1) * CHUNK, edges.next)
        if start < stop:
            table = edge_table(edges.rows(start, stop))
            seal = stop == (chunk + 1) * CHUNK
            yield Change("edges", chunk, start, table, whole=whole, seal=seal)
    amended = sorted(s for s in graph.joins.amended | graph.erased if edges.first <= s < written)
    if amended and not fold:
        yield Change("amendments", 0, 0, _amendment_table(graph, amended), key="sequence")


def _amendment_table(graph: Graph, sequence: Sequence[int]) -> Table:
    at = np.array(sequence, np.int64)
    return pa.table({"sequence": at, "kind": graph.edges.kind(at), "link": graph.edges.link(at)})


def edge_table(rows: EdgeRows) -> Table:
    """Edges as a table."""
    return pa.table(
        {
            "user": rows.user,
            "item": rows.item,
            "time_us": rows.time_us,
            "kind": rows.kind,
            "link": rows.link,
        }
    )


def _name_changes(log: str, names: Vocabulary, logs: Logs) -> Iterator[Change]:
    written, end = end_of(logs, log), len(names)
    dirty = {n // CHUNK for n in names.erased if n < written}
    fresh = range(written // CHUNK, -(-end // CHUNK)) if end > written else range(0)
    for chunk in sorted(dirty | set(fresh)):
        whole = chunk in dirty
        start = chunk * CHUNK if whole else max(chunk * CHUNK, written)
        stop = min((chunk + 1) * CHUNK, end)
        table = pa.table({"name": pa.array(names.names[start:stop], pa.large_string())})
        yield Change(log, chunk, start, table, whole=whole, seal=stop == (chunk + 1) * CHUNK)


def _degree_changes(graph: Graph, logs: Logs) -> Iterator[Change]:
    n = len(graph.users)
    users = np.flatnonzero(graph.touched.reserve(n)[:n]) if "degrees" in logs else np.arange(n)
    if len(users):
        degrees = graph.degrees
        columns = {
            "user": users.astype(np.int32),
            "count": degrees.count.reserve(n)[users],
            "period": degrees.period.reserve(n)[users],
        }
        yield Change("degrees", 0, 0, pa.table(columns), key="user")


def _catalog_changes(catalog: Catalog, logs: Logs) -> Iterator[Change]:
    items = catalog.changed_items if "catalog" in logs else catalog.items
    if items:
        table = item_table({n: catalog.items[n] for n in sorted(items)})
        yield Change("catalog", 0, 0, table, key="item")
    campaigns = catalog.changed_campaigns if "campaigns" in logs else catalog.campaigns
    if campaigns:
        table = campaign_table({c: catalog.campaigns[c] for c in sorted(campaigns)})
        yield Change("campaigns", 0, 0, table, key="campaign")


def _window_changes(name: str, window: IdWindow | IdTable, logs: Logs) -> Iterator[Change]:
    for partition, rows in window.lanes.rows().items():
        log = lane_log(name, partition)
        held: dict[int, int] = {}
        for piece in logs.get(log, ()):
            held[piece.chunk] = held.get(piece.chunk, 0) + piece.rows
        for number, size in window.sizes(partition).items():
            written = held.get(number, 0)
            if whole := (partition, number) in window.renamed:
                written = 0
            if size > written:
                ids, numbers = window.since(partition, number, written)
                columns = {"id": pa.array(ids, pa.large_string())}
                if numbers:
                    columns["number"] = pa.array(numbers, pa.int64())
                seal = number < rows // window.lanes.block
                yield Change(log, number, written, pa.table(columns), whole=whole, seal=seal)


def _array_table(array: NDArray[np.generic]) -> Table:
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    shape = ",".join(str(n) for n in array.shape)
    return pa.table({"value": flat}).replace_schema_metadata({"shape": shape})
