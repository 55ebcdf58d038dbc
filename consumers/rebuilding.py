"""A version made again from what it was made of, to see that it comes out the same to the bit.

From the version it went on from and the graph snapshot it learned from, where both are kept; else
from the events: the source is read again up to the offsets recorded, and where the version it went
on from is gone too, that is made again first, and so on back to the first of the chain.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from json import dumps

from consumers import replaying, wiring
from consumers.chronicle import entries
from consumers.errors import NotRepeatable
from consumers.finetuner import train
from consumers.inputs import Inputs
from consumers.manifest import Line
from consumers.manifest_steps import Excised, Origin
from consumers.memory import opened_view
from consumers.settings import Settings
from consumers.texts import Texts
from consumers.versions import Versions
from model.config import ModelConfig
from model.state import ModelState
from stream.batch import Partition, RecordBatch
from stream.clock import Clock
from stream.codec import Codec, Limits
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import OpenedView, SnapshotStore
from stream.source import Source
from stream.state import State
from stream.view import GraphConfig


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A version that was made again.

    Attributes
    ----------
    item_ids : external id of each row of the item table
    how : str
        What it was made from.
    made_with : name -> value
        Circumstances of this time, as `model.circumstances` tells.
    """

    state: ModelState
    item_ids: tuple[str, ...]
    how: str
    made_with: Mapping[str, str]


class Rebuilder:
    """Makes versions of one state again.

    Parameters
    ----------
    settings : Settings
    lines : of the manifest
    inputs : Inputs
        The files that were read, where files were.
    from_events : bool
        Use no version and no snapshot that is kept.
    """

    def __init__(
        self,
        settings: Settings,
        lines: Sequence[Line],
        inputs: Inputs,
        clock: Clock,
        *,
        from_events: bool = False,
    ) -> None:
        self._settings = settings
        self._inputs = inputs
        self._clock = clock
        self._from_events = from_events
        self._in_place = any(_in_place(line) for line in lines)
        self._origins = {one.number: one.origin for one in entries(lines)}
        self._versions = Versions(settings.models_dir)
        self._snapshots = SnapshotStore(settings.graph_dir, clock)
        self._how: list[str] = []

    def rebuild(self, number: int) -> Rebuilt:
        """Make a version again.

        Raises
        ------
        NotRepeatable
            Something that it was made from is neither kept nor to be had from the source.
        """
        self._how.clear()
        with ExitStack() as stack:
            end = replaying.partitions(self._origin(number).offsets)
            stream = _Stream(self._settings, self._inputs, end, self._clock, stack)
            state, opened, made_with = self._make(number, stream)
        return Rebuilt(state, tuple(opened.items.names), "; ".join(self._how), made_with)

    def _make(
        self, number: int, stream: "_Stream"
    ) -> tuple[ModelState, OpenedView, Mapping[str, str]]:
        origin = self._origin(number)
        config = config_of(origin, number)
        parent = self._parent(origin, stream)
        opened = self._graph(origin, stream)
        threads = origin.made_with.get("threads")
        state, made_with = train(
            opened,
            parent,
            config,
            seed=origin.seed or 0,
            threads=None if threads is None else int(threads),
            anew=origin.anew,
        )
        return state.state, opened, made_with

    def _origin(self, number: int) -> Origin:
        origin = self._origins.get(number)
        if origin is None or origin.seed is None:
            raise NotRepeatable(
                f"{self._settings.manifest}: version {number} was learned by a program that did "
                "not record how; only versions since can be made again"
            )
        return origin

    def _parent(self, origin: Origin, stream: "_Stream") -> ModelState | None:
        if not origin.parent:
            return None
        number = int(origin.parent)
        if not self._from_events and number in self._versions.numbers():
            version = self._versions.open(number)
            expected = self._origin(number).hash
            if not expected or version.origin.hash == expected:
                self._how.append(f"version {number} as stored")
                return version.load()
        return self._make(number, stream)[0]

    def _graph(self, origin: Origin, stream: "_Stream") -> OpenedView:
        if not self._from_events and origin.snapshot.isdecimal():
            config = GraphConfig(window_us=origin.window_us)
            opened = self._snapshots.open_view(config, int(origin.snapshot))
            if opened is not None and opened.info.sha256 == origin.snapshot_hash:
                self._how.append(f"snapshot {origin.snapshot}")
                return opened
        if self._in_place:
            raise NotRepeatable(
                "edges were taken out of the graph in place: no replay of the events gives its "
                "numbers again. A version can be made again from its snapshot and the version "
                "before it only, as long as both are kept"
            )
        self._how.append(f"events up to {dict(origin.offsets)}")
        return stream.at(origin)


class _Stream:
    """The source, read again as far as each version wants it; only ever onwards."""

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        end: Mapping[Partition, int],
        clock: Clock,
        stack: ExitStack,
    ) -> None:
        self._settings = settings
        self._inputs = inputs
        self._end = end
        self._clock = clock
        self._stack = stack
        self._state: State | None = None
        self._source: Source | None = None
        self._take: Callable[[RecordBatch], None] = lambda _: None

    @cached_property
    def _known(self) -> State | None:
        """The state as it is now: it says where it began and what it leaves out."""
        settings = self._settings
        snapshots = SnapshotStore(settings.graph_dir, self._clock)
        config = GraphConfig(window_us=settings.window_us)
        return snapshots.load(config, wiring.ordering_of(settings))

    def at(self, origin: Origin) -> OpenedView:
        upto = replaying.partitions(origin.offsets)
        known = self._known
        if known is not None and known.numbering != origin.numbering:
            raise NotRepeatable(
                f"version {origin.model} knows events that have been excised since: it can be made "
                "again from its snapshot and the version before it only, as long as both are kept"
            )
        state = self._state or self._begin(origin)
        if self._source is None:
            self._source = replaying.open_again(
                self._settings, self._inputs, known, self._end, self._clock
            )
            self._stack.callback(self._source.close)
        replaying.replay(self._source, self._take, state.positions, upto, self._settings.batch)
        return opened_view(state)

    def _begin(self, origin: Origin) -> State:
        settings, known = self._settings, self._known
        graph = Graph(GraphConfig(window_us=origin.window_us))
        rules = () if known is None else known.orderer.rules
        state = State(graph, Orderer(wiring.ordering_of(settings), rules))
        embedder = wiring.open_embedder(settings)
        dims = wiring.vector_dims(settings, graph.catalog, embedder)
        codec, texts = Codec(Limits(vector_dims=dims), self._clock), Texts(graph.catalog, embedder)
        self._stack.callback(texts.close)

        def take(batch: RecordBatch) -> None:
            events = codec.decode(batch).events
            applied = graph.apply(events, state.orderer.admit(events).keep)
            texts.embed(applied.announced_items)
            state.moved(batch)

        self._state, self._take = state, take
        return state


def _in_place(line: Line) -> bool:
    return isinstance(line.body, Excised) and line.body.how == "in place"


def config_of(origin: Origin, number: int) -> ModelConfig:
    """The hyper-parameters that a version was learned with.

    Raises
    ------
    NotRepeatable
        This program has other defaults.
    """
    config = ModelConfig.model_validate(dict(origin.config))
    dumped = dumps(config.model_dump(mode="json"), sort_keys=True)
    if sha256(dumped.encode()).hexdigest() != origin.config_hash:
        raise NotRepeatable(
            f"version {number} was learned by a program with other default hyper-parameters: use "
            "the goatstream that learned it"
        )
    return config
