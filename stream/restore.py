"""From the segments and the manifest of a snapshot back to what was saved."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, texts
from stream.batch import Partition
from stream.catalog_table import campaigns_of, items_of
from stream.edges import EdgeRows
from stream.errors import SnapshotCorrupt, SnapshotForeign
from stream.excision import Rule
from stream.graph import Graph
from stream.ledger_table import CAPS, ledger_state, restore_ledger
from stream.manifest import Manifest
from stream.ordering import Orderer, OrderingConfig
from stream.segments import Piece, Segments, Table
from stream.state import State, lane_log, windows
from stream.topic import Topic
from stream.view import GraphConfig
from stream.vocabulary import Vocabulary
from stream.window import IdTable, IdWindow, Stored


def small_state(state: State) -> dict[str, Any]:
    """What of a state stands in the manifest itself."""
    graph = state.graph
    return {
        "now_us": graph.now_us,
        "first": graph.edges.first,
        "next": graph.edges.next,
        "window_us": graph.config.window_us,
        "ledger": ledger_state(graph.ledger),
        "watermarks": _by_partition(state.orderer.watermarks),
        "leaps": [
            [p.topic, p.number, sorted(ahead.items())]
            for p, ahead in state.orderer.leaps.items()
            if ahead
        ],
        "begun": _by_partition(state.begun),
        "topics": [
            [name, t.id, t.partitions, sorted(t.epochs.items())] for name, t in state.topics.items()
        ],
        "numbering": state.numbering,
        "excised": [asdict(rule) for rule in state.orderer.rules],
        "windows": {
            name: {"block": window.lanes.block, "rows": _by_partition(window.lanes.rows())}
            for name, window in windows(state).items()
        },
    }


class Restorer:
    """Reads one snapshot.

    Parameters
    ----------
    manifest : Manifest
    segments : Segments
    """

    def __init__(self, manifest: Manifest, segments: Segments) -> None:
        self._manifest = manifest
        self._segments = segments

    def state(self, graph_config: GraphConfig, ordering_config: OrderingConfig) -> State:
        """Everything, as it was.

        Raises
        ------
        SnapshotCorrupt
            If a segment is not what was written.
        SnapshotForeign
            If remembered ids were counted in blocks of another size.
        """
        graph = self.graph(graph_config)
        self._degrees(graph)
        rules = [Rule(**rule) for rule in self._manifest.state.get("excised", ())]
        orderer = Orderer(ordering_config, rules)
        # none in a snapshot of before there were any
        leaps = cast(list[list[Any]], self._manifest.state.get("leaps", []))
        orderer.restore(
            self._numbers("watermarks"),
            {Partition(topic, number): dict(ahead) for topic, number, ahead in leaps},
        )
        state = State(
            graph,
            orderer,
            positions=dict(self._manifest.positions),
            extra=self._manifest.extra,
            arrays=self.arrays(),
            saved_as=self._manifest.sha256,
            begun=self._numbers("begun"),
            topics=self._topics(),
            numbering=self._manifest.state.get("numbering", 0),
        )
        for name, window in windows(state).items():
            self._window(name, window)
        state.restored()
        return state

    def graph(self, config: GraphConfig) -> Graph:
        """Names, edges and catalogue: what a reader of the graph needs."""
        graph = Graph(config)
        graph.users = Vocabulary(self._names("users"))
        graph.items = Vocabulary(self._names("items"))
        graph.now_us = int(self._manifest.state["now_us"])
        self._edges(graph)
        catalog = [row for table in self._tables("catalog") for row in items_of(table)]
        campaigns = [row for table in self._tables("campaigns") for row in campaigns_of(table)]
        graph.catalog.restore(catalog, campaigns)
        starts = [piece.start for piece in self._manifest.logs.get(CAPS, ())]
        ledger = self._manifest.state.get("ledger")  # none in a snapshot of format 1
        restore_ledger(graph.ledger, self._tables, starts, graph.catalog.campaigns, ledger)
        return graph

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The named arrays."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for log in self._manifest.logs:
            kind, _, name = log.partition("/")
            if kind == "array":
                (table,) = self._tables(log)
                shape = table.schema.metadata[b"shape"].decode()
                sizes = [int(n) for n in shape.split(",") if n]
                arrays[name] = table["value"].to_numpy().reshape(sizes).copy()
        return arrays

    def _numbers(self, name: str) -> dict[Partition, int]:
        """A number of each partition; nothing from a snapshot of before that was kept."""
        rows = cast(list[list[Any]], self._manifest.state.get(name, []))
        return {Partition(topic, number): at for topic, number, at in rows}

    def _topics(self) -> dict[str, Topic]:
        rows = cast(list[list[Any]], self._manifest.state.get("topics", []))
        return {name: Topic(id_, count, dict(epochs)) for name, id_, count, epochs in rows}

    def _tables(self, log: str) -> list[Table]:
        return list(self._segments.read_all(self._manifest.logs.get(log, ())))

    def _names(self, log: str) -> list[str]:
        return [name for table in self._tables(log) for name in texts(table["name"])]

    def _edges(self, graph: Graph) -> None:
        first = int(self._manifest.state["first"])
        graph.edges.start_at(first)
        pieces = self._manifest.logs.get("edges", ())
        for piece, table in zip(pieces, self._segments.read_all(pieces), strict=True):
            if max(first, piece.start) != graph.edges.next:
                raise SnapshotCorrupt(
                    f"{self._segments.path(piece)}: begins with edge {piece.start}, "
                    f"expected {graph.edges.next}"
                )
            kept = table.slice(max(0, first - piece.start))
            graph.edges.append(
                EdgeRows(*(kept[c].to_numpy() for c in EdgeRows.__dataclass_fields__))
            )
        for table in self._tables("amendments"):
            columns = [table[c].to_numpy() for c in ("sequence", "kind", "link")]
            late = columns[0] >= first
            graph.edges.amend(*(c[late] for c in columns))
        graph.chains.rebuild(len(graph.users))

    def _degrees(self, graph: Graph) -> None:
        if graph.config.window_us != self._manifest.state["window_us"]:
            return  # counted over periods of another length: count anew
        count = graph.degrees.count.reserve(len(graph.users))
        period = graph.degrees.period.reserve(len(graph.users))
        for table in self._tables("degrees"):
            users = table["user"].to_numpy()
            count[users] = table["count"].to_numpy()
            period[users] = table["period"].to_numpy()

    def _window(self, name: str, window: IdWindow | IdTable) -> None:
        stored = cast(Mapping[str, Any], self._manifest.state["windows"][name])
        if stored["block"] != window.lanes.block:
            raise SnapshotForeign(
                f"snapshot {self._manifest.number}: ids are remembered in blocks of "
                f"{stored['block']}, configured are {window.lanes.block}; keep the former"
            )
        pieces: list[tuple[Partition, Piece]] = []
        for topic, number, rows in stored["rows"]:
            partition = Partition(topic, number)
            window.lanes.restore(partition, rows)
            log = self._manifest.logs.get(lane_log(name, partition), ())
            pieces += [(partition, piece) for piece in log]
        tables = self._segments.read_all([piece for _, piece in pieces])
        window.restore(
            [
                Stored(partition, piece.chunk, *_ids(table))
                for (partition, piece), table in zip(pieces, tables, strict=True)
            ]
        )


def _ids(table: Table) -> tuple[Column, NDArray[np.int64] | None]:
    numbers = table["number"].to_numpy() if "number" in table.column_names else None
    ids = table["id"]
    return ids.chunk(0) if ids.num_chunks == 1 else ids.combine_chunks(), numbers


def _by_partition(numbers: Mapping[Partition, int]) -> list[list[str | int]]:
    return [[p.topic, p.number, n] for p, n in numbers.items()]
