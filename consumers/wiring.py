"""Settings to parts: the only place that knows which implementation is used."""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from consumers import languages
from consumers.campaigns import Campaigns
from consumers.edge_index import EdgeIndex
from consumers.errors import ServerUnavailable, SettingsError
from consumers.evaluator import Evaluator
from consumers.homes import refuse_members
from consumers.index import Names, VectorIndex
from consumers.inputs import Inputs
from consumers.live import LiveModel
from consumers.logs import LoggedLetters
from consumers.membership import member_of
from consumers.no_harm import Budgets
from consumers.pipeline import Pipeline
from consumers.preferences import Preferences
from consumers.publisher import Publisher
from consumers.settings import Settings
from consumers.shaping import Shaper, ShapingRules
from consumers.shared_index import shared
from consumers.tally import Tally
from consumers.texts import Embedder, Texts
from consumers.trial import Trial
from consumers.versions import Versions
from model.config import ModelConfig
from stream.batch import Partition
from stream.catalog import IMAGE, TEXT, Catalog
from stream.clock import Clock, SystemClock
from stream.codec import Codec, Limits
from stream.deadline import Deadline
from stream.errors import SinkError, SourceError
from stream.file_source import FileSource
from stream.formats import open_format
from stream.graph import Graph
from stream.kafka_sink import KafkaDeadLetters
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.ordering import Orderer, OrderingConfig
from stream.simulator import SimulatorConfig
from stream.simulator_source import PARTITION as SIMULATOR
from stream.simulator_source import SimulatorSource
from stream.sink import DeadLetterSink, FileDeadLetters
from stream.snapshot import SnapshotStore
from stream.source import Source
from stream.state import State
from stream.topic import Topic
from stream.view import GraphConfig

SIMULATED = 60_000  # messages of one `goat run` without arguments
REPLAY_FINETUNE_EVERY = 10_000
LIVE_SCORE_SHARE = 0.1  # ranking each click among all items would cost more than all the rest
CONNECT_TIMEOUT_S = 30.0

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a program that ingests works with."""

    model: ModelConfig
    pipeline: Pipeline
    source: Source


@contextmanager
def opened(settings: Settings, inputs: Inputs, *, publish: bool) -> Generator[Parts]:
    """Open everything that ingestion needs, and close it again in the opposite order."""
    clock, model = SystemClock(), settings.hyper_parameters()
    if publish and not settings.members:
        refuse_members(settings.state, "this program")
    settings.state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        live = inputs.events is None and settings.kafka is not None
        dead_letters = LoggedLetters(open_dead_letters(settings, kafka=live))
        stack.callback(dead_letters.close)
        publisher = open_publisher(settings, clock) if publish else None
        if publisher is not None:
            stack.callback(publisher.close)
        pipeline = open_pipeline(settings, model, publisher, dead_letters, clock, live=live)
        stack.callback(pipeline.snapshots.close)
        pipeline.snapshots.acquire()
        stack.callback(pipeline.texts.close)
        same_embedder(pipeline)
        state = pipeline.state
        source = open_source(settings, inputs, state.positions, clock, state.topics)
        stack.callback(source.close)
        yield Parts(model, pipeline, source)


def cluster(settings: Settings) -> KafkaCluster:
    """The Kafka that the settings name."""
    if settings.kafka is None:
        raise SettingsError("no Kafka: give --kafka host:port or set GOAT_KAFKA")
    return KafkaCluster(settings.kafka, settings.kafka_options())


def open_source(
    settings: Settings,
    inputs: Inputs,
    positions: Mapping[Partition, int],
    clock: Clock,
    topics: dict[str, Topic] | None = None,
) -> Source:
    """Files where events are named, else Kafka where it is, else the simulator."""
    if inputs.events is not None:
        fmt = open_format(inputs.format, inputs.columns or None)
        history = [inputs.history] if inputs.history is not None else []
        return FileSource([inputs.events], fmt, history=history, resume=positions)
    if settings.kafka is None:
        messages = positions.get(SIMULATOR, 0) + (inputs.limit or SIMULATED)
        return SimulatorSource(SimulatorConfig(messages), settings.seed, resume=positions)
    config = KafkaConfig(
        cluster(settings),
        (settings.topic,),
        settings.group,
        start=settings.start_at,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        member=member_of(settings.state),
    )
    with reaching():
        return KafkaSource(config, positions, clock, topics)


def open_index(settings: Settings) -> VectorIndex:
    """Qdrant's server where one is named, else its engine in the state folder."""
    if settings.qdrant is None:
        return shared(EdgeIndex(settings.state / "index"))
    from consumers.qdrant_index import QdrantIndex  # its client takes a second to import

    key = settings.qdrant_api_key
    return QdrantIndex(
        settings.qdrant,
        grpc_port=settings.qdrant_grpc_port,
        api_key=None if key is None else key.get_secret_value(),
        ca=settings.qdrant_ca,
        certificate=settings.qdrant_certificate,
        key=settings.qdrant_key,
    )


def open_publisher(settings: Settings, clock: Clock) -> Publisher:
    """The publisher of the settings' collections."""
    names = Names.of(settings.collection)
    return Publisher(open_index(settings), settings.manifest, names, clock)


def open_dead_letters(settings: Settings, *, kafka: bool) -> DeadLetterSink:
    """A topic beside the events' topic, else a file in the state folder."""
    if not kafka:
        return FileDeadLetters(settings.state / "dead_letters.jsonl")
    return open_topic(settings, settings.dead_letter_topic, KafkaDeadLetters)


def open_topic(
    settings: Settings, topic: str, sink: Callable[[KafkaCluster, str], Opened]
) -> Opened:
    """A sink of a topic, which is made where it is not there."""
    target = cluster(settings)
    with reaching():
        ensure_topic(target, topic, Deadline.after(CONNECT_TIMEOUT_S))
        return sink(target, topic)


@contextmanager
def reaching() -> Generator[None]:
    """What fails while a cluster is first reached means that it cannot be had."""
    try:
        yield
    except (SourceError, SinkError) as error:
        raise ServerUnavailable(str(error)) from error


def open_pipeline(
    settings: Settings,
    model: ModelConfig,
    publisher: Publisher | None,
    dead_letters: DeadLetterSink,
    clock: Clock,
    *,
    live: bool = False,
) -> Pipeline:
    """Build a pipeline and put back what the newest valid snapshot holds.

    A live one must keep up with its stream: it scores a sample, and compares no static users.
    """
    versions = Versions(settings.models_dir)
    snapshots = SnapshotStore(settings.graph_dir, clock, pinned=versions.snapshots)
    ordering = ordering_of(settings)
    config = graph_of(settings)
    state = snapshots.load(config, ordering) or State(Graph(config), Orderer(ordering))
    pipeline = pipeline_of(
        settings,
        model,
        state,
        clock,
        publisher=publisher,
        dead_letters=dead_letters,
        snapshots=snapshots,
        live=live,
    )
    if settings.embedder == "endpoint":
        pipeline.texts.recover()
    if state.saved_as:
        _restore(pipeline, versions)
    return pipeline


def pipeline_of(
    settings: Settings,
    model: ModelConfig,
    state: State,
    clock: Clock,
    *,
    publisher: Publisher | None,
    dead_letters: DeadLetterSink,
    snapshots: SnapshotStore,
    live: bool = False,
) -> Pipeline:
    """Build a pipeline over a state."""
    served = LiveModel(state.graph, model, Preferences(settings.state))
    share = settings.score_share or (LIVE_SCORE_SHARE if live else 1.0)
    trial = Trial(budgets_of(settings), clock if live else None)
    embedder = open_embedder(settings)
    dims = vector_dims(settings, state.graph.catalog, embedder)
    return Pipeline(
        codec=Codec(Limits(vector_dims=dims), clock),
        dead_letters=dead_letters,
        state=state,
        texts=Texts(state.graph.catalog, embedder),
        evaluator=Evaluator(state.graph, served, share, not live, beside=trial.see),
        live=served,
        campaigns=Campaigns(state.graph, clock if live else None),
        shaper=Shaper(shaping_of(settings), np.random.default_rng(settings.seed)),
        publisher=publisher,
        snapshots=snapshots,
        trial=trial,
    )


def budgets_of(settings: Settings) -> Budgets:
    """What a new version may cost."""
    return Budgets(
        chance=settings.harm_chance,
        margin=settings.harm_margin,
        cold_margin=settings.harm_cold_margin,
        window=settings.harm_window,
        wait_s=settings.harm_wait_s,
        undecided=settings.harm_undecided,
        watch=settings.harm_watch,
        overlap=settings.harm_overlap,
        skew=settings.skew_budget,
        residual=settings.skew_residual,
    )


def graph_of(settings: Settings) -> GraphConfig:
    """What stays in the graph."""
    return GraphConfig(window_us=settings.window_us, join_rows=settings.joinable)


def shaping_of(settings: Settings) -> ShapingRules:
    """What of a live version's changes may be lost or late in the index."""
    return ShapingRules(
        loss=settings.shaping_loss,
        patience_s=settings.shaping_patience_s,
        hot_every_s=settings.hot_every_s,
        backlog=settings.index_backlog,
    )


def ordering_of(settings: Settings) -> OrderingConfig:
    """How late an event may be, and how long its repetition is known."""
    lateness_us = int(settings.lateness_s * 1e6)
    return OrderingConfig(remembered=settings.remembered, lateness_us=lateness_us)


def vector_dims(
    settings: Settings, catalog: Catalog, embedder: Embedder | None
) -> dict[str, int | None]:
    """Length of vectors by name: as made or set, else as known, else the first one decides."""
    known = _known_dim(catalog, TEXT)
    wanted = settings.text_dim if embedder is None else embedder.dim
    if wanted is not None and known not in (None, wanted):
        raise SettingsError(
            f"the state's text vectors have length {known}, but {wanted} is asked for now:"
            " keep the embedder and text_dim that it began with, or begin a new --state"
        )
    return {TEXT: wanted or known, IMAGE: _known_dim(catalog, IMAGE)}


def _known_dim(catalog: Catalog, name: str) -> int | None:
    return next((len(r.vectors[name]) for r in catalog.items.values() if name in r.vectors), None)


def same_embedder(pipeline: Pipeline) -> None:
    """See to it that a state's text vectors are all of one model.

    Raises
    ------
    SettingsError
        Those that it holds are of another.
    """
    known, now = pipeline.state.extra.get("embedder"), pipeline.texts.name
    records = pipeline.state.graph.catalog.items.values()
    if known not in (None, now) and any(TEXT in r.vectors for r in records):
        raise SettingsError(
            f"the state's text vectors are of the embedder {known}, not of {now}: keep to that one,"
            " or begin a new --state"
        )


def _restore(pipeline: Pipeline, versions: Versions) -> None:
    """Put back what the pipeline itself adds to a snapshot."""
    extra = pipeline.state.extra
    arrays = cast(Mapping[str, NDArray[np.float64]], pipeline.state.arrays)
    pipeline.tally = Tally.from_json(cast(Mapping[str, object], extra["tally"]))
    if number := int(str(extra["version"])):
        pipeline.live.use(versions.open(number))
    pipeline.live.restore(arrays)
    pipeline.live.departed.restore(extra.get("gone"))
    pipeline.evaluator.restore(arrays)
    pipeline.campaigns.restore(arrays)
    pipeline.shaper.restore(arrays)
    pipeline.trial.restore(arrays, pipeline.live, versions.open)
    if number:
        pipeline.evaluator.follow(pipeline.live)


def open_embedder(settings: Settings) -> Embedder | None:
    """Who makes vectors of texts; None when only those given in events are used."""
    if settings.embedder == "given":
        return None
    embedder = languages.open_embedder(settings)
    if settings.text_dim not in (None, embedder.dim):
        raise SettingsError(
            f"{embedder.name} makes vectors of length {embedder.dim}, but GOAT_TEXT_DIM is"
            f" {settings.text_dim}: leave it out"
        )
    return embedder
