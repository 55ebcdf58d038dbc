"""Settings to a member of a group, and to whoever waits for members."""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from consumers import wiring
from consumers.campaigns import Campaigns
from consumers.cell import Cell, Tenure
from consumers.errors import SettingsError, VersionMissing
from consumers.evaluator import Evaluator
from consumers.frontier import Frontier
from consumers.homes import FOLDER, FRONTIER, Home
from consumers.item_news import NewsReader, NewsWriter
from consumers.lanes import Lanes
from consumers.lifecycle import Stop
from consumers.live import LiveModel
from consumers.logs import log
from consumers.member import Member
from consumers.members import Members
from consumers.pipeline import Pipeline
from consumers.renumbered import renumbered
from consumers.settings import Settings
from consumers.shaping import Shaper, ShapingRules
from consumers.tally import Tally
from consumers.texts import Texts
from consumers.versions import Versions
from stream.batch import Partition
from stream.clock import Clock, SystemClock
from stream.codec import Codec, Limits
from stream.graph import Graph
from stream.kafka_source import KafkaConfig, KafkaSource, Moves
from stream.ordering import Orderer
from stream.segments import replace_file, sync_folder
from stream.sink import NoLetters
from stream.snapshot import SnapshotStore
from stream.state import State


def wait_for_members(settings: Settings, pipeline: Pipeline) -> Callable[[], None]:
    """Have members write users, and this process the rest; to be called after each step.

    Raises
    ------
    SettingsError
        If there is no server for several processes to write to.
    """
    _several(settings)
    if pipeline.publisher is None:
        raise SettingsError("members write into what is published here: publish")
    pipeline.publisher.members = Members(pipeline.state)
    news = NewsWriter(settings.state / FOLDER, SystemClock())
    return lambda: news.note((pipeline.live, *pipeline.trial.beside))


@contextmanager
def joined(settings: Settings, stop: Stop) -> Generator[Member]:
    """Open a member, and close it again.

    Raises
    ------
    SettingsError
        If there is no server for several processes to write to, or the topic has other partitions
        than when its users were first divided.
    """
    _several(settings)
    clock, root = SystemClock(), settings.state / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lanes = Lanes(wiring.open_index(settings), settings.manifest, clock)
        stack.callback(lanes.close)
        news = NewsReader(root)
        news.look()

        def cell(partition: Partition) -> Cell:
            same_partitions(root, settings.topic, partition.number + 1, grown=True)
            return open_cell(settings, partition, lanes, news, clock)

        def source(moves: Moves) -> KafkaSource:
            config = KafkaConfig(
                wiring.cluster(settings),
                (settings.topic,),
                f"{settings.group}.members",
                connect_timeout_s=wiring.CONNECT_TIMEOUT_S,
                session_timeout_s=settings.session_timeout_s,
            )
            with wiring.reaching():
                opened = KafkaSource(config, {}, clock, moves=moves)
            same_partitions(root, settings.topic, opened.partitions(settings.topic))
            return opened

        yield Member(
            source,
            cell,
            news,
            clock,
            stop,
            batch=settings.batch,
            snapshot_every_s=settings.snapshot_every_s,
        )


def open_cell(
    settings: Settings, partition: Partition, lanes: Lanes, news: NewsReader, clock: Clock
) -> Cell:
    """Take a partition over: its lane first, then what those before have left."""
    home = Home(settings.state / FOLDER, partition)
    lane = lanes.claim(partition)
    folder = home.at(lane.generation)
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(folder.parent)
    graph, ordering = wiring.graph_of(settings), wiring.ordering_of(settings)
    state = home.state(lane.generation, clock, graph, ordering)
    frontier = Frontier(folder / FRONTIER)
    frontier.inherit(home.frontier(lane.generation))
    pipeline = _pipeline(settings, state or State(Graph(graph), Orderer(ordering)), folder, clock)
    versions = Versions(settings.models_dir)
    if state is not None:
        _restore(pipeline, versions)
    tenure = Tenure(lane, home, frontier)
    return Cell(partition, pipeline, tenure, versions=versions, news=lambda: news.last, clock=clock)


def _pipeline(settings: Settings, state: State, folder: Path, clock: Clock) -> Pipeline:
    """All between a partition's messages and its users' vectors.

    Dead letters, scores, texts and campaigns are the affair of whoever sees all events.
    """
    model = settings.hyper_parameters()
    if model.user_neighbours:
        raise SettingsError("user_neighbours asks for all users at once: members see only theirs")
    live = LiveModel(state.graph, model)
    return Pipeline(
        codec=Codec(Limits(vector_dims={}), clock),
        dead_letters=NoLetters(),
        state=state,
        texts=Texts(state.graph.catalog, None),
        evaluator=Evaluator(state.graph, live, share=0.0, compare_static=False),
        live=live,
        campaigns=Campaigns(state.graph, clock),
        shaper=Shaper(ShapingRules(), np.random.default_rng(settings.seed)),  # of items
        publisher=None,
        snapshots=SnapshotStore(folder, clock),
    )


def _restore(pipeline: Pipeline, versions: Versions) -> None:
    """Put back what the pipeline itself adds to a snapshot."""
    state = pipeline.state
    pipeline.live.departed.restore(state.extra.get("gone"))
    pipeline.tally = Tally.from_json(cast(Mapping[str, object], state.extra["tally"]))
    if number := int(str(state.extra["version"])):
        try:
            pipeline.live.use(renumbered(versions.open(number), state.graph.items))
        except VersionMissing:
            log.warning("a version is not kept any more", version=number)
            return
    arrays = cast(Mapping[str, NDArray[np.float64]], state.arrays)
    pipeline.live.restore(arrays)
    pipeline.campaigns.restore(arrays)


def _several(settings: Settings) -> None:
    """See to it that several processes can share what they write to."""
    wiring.cluster(settings)
    if settings.qdrant is None:
        raise SettingsError(
            "members share one index, and the embedded engine has one process: give --qdrant"
        )


def same_partitions(root: Path, topic: str, count: int, *, grown: bool = False) -> None:
    """Refuse a topic whose users are divided otherwise than they were.

    Parameters
    ----------
    grown : bool
        Whether ``count`` is only a lower bound.
    """
    path = root / f"{topic}.json"
    if not path.exists():
        replace_file(path, json.dumps({"partitions": count}).encode())
        sync_folder(root)
        return
    known = int(json.loads(path.read_bytes())["partitions"])
    if count > known or (count < known and not grown):
        raise SettingsError(
            f"{topic} has {count} partitions, {known} when members began: a user's events would "
            f"lie in two of them, and two members would write one user. Stop all members, remove "
            f"{root}, and start them again: they read the topic from its beginning"
        )
