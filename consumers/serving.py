"""`goat serve`: candidates over HTTP, from a state that another process keeps.

Loops beside the server's own: one follows the state, one opens the index, one writes what was
served. All end when a signal asks for it, the last after everything that waits is written.
"""

import gc
import ssl
import sys
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import uvicorn
from numpy.typing import NDArray

from consumers import canary, wiring
from consumers.board import Board
from consumers.board_routes import BoardRoutes
from consumers.breaker import Breaker
from consumers.campaigns import Campaigns
from consumers.errors import SettingsError
from consumers.finder import Finder, IndexFinder
from consumers.follower import Follower
from consumers.gate import Audit, Gate
from consumers.intake import Intake
from consumers.keys import Buckets, Key, Keyring, check_exposure, parse_keys, read_keys
from consumers.ladder import Ladder
from consumers.lifecycle import Background, Stop
from consumers.live import LiveModel
from consumers.logs import announce, log
from consumers.metrics import DriftFigures, StreamFigures
from consumers.preferences import Preferences
from consumers.profiles import LatestProfiles
from consumers.qdrant_finder import QdrantFinder
from consumers.readiness import Readiness
from consumers.reconnecting import Reconnecting
from consumers.remembered import LastGood
from consumers.routes import Routes
from consumers.served import ServedLog
from consumers.server import application
from consumers.serving_metrics import ServingMetrics
from consumers.settings import Settings
from consumers.status import read_status
from consumers.texts import Texts
from consumers.versions import Versions
from consumers.world import World
from stream.clock import Clock, SystemClock
from stream.codec import Codec, Limits
from stream.kafka_reader import KafkaReader, ReaderConfig
from stream.kafka_sink import KafkaSink
from stream.sink import EventSink, FileSink
from stream.snapshot import SnapshotStore
from stream.source import Source
from stream.state import State

GRACE_S = 5
KEPT_ALIVE_S = 30
# A thread that has an answer to give would wait five milliseconds for one that computes.
SWITCH_S = 0.0005
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
THREADS = 40  # lists in the making: nearly all of them wait for the index


@dataclass(frozen=True, slots=True)
class Serving:
    """Everything between the socket and the state.

    Attributes
    ----------
    gate : the ASGI application
    loops : started before the socket is opened, closed after it is
    """

    gate: Gate
    loops: tuple[Background, ...]

    def start(self, stack: ExitStack) -> None:
        """Start the loops; they end when the stack is closed."""
        for loop in self.loops:
            loop.start()
            stack.callback(loop.close)


def serve(settings: Settings) -> int:
    """Serve until a signal asks for the end; see `consumers.cli.serve`."""
    keys = _keys(settings)
    check_exposure(settings.host, keys=len(keys), unguarded=settings.unguarded)
    config = http_config(settings)
    with ExitStack() as stack:
        serving = build(settings, keys, SystemClock(), stack, settle=settle)
        config.app = serving.gate
        serving.start(stack)
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_S)
        # Its own handlers hand the signal on to ours when it has ended: exit code 0.
        stack.enter_context(Stop().listening())
        where = f"{'https' if settings.tls_certificate else 'http'}://{settings.host}"
        url = f"{where}:{settings.port}"
        announce(f"serving on {url}, the board at /board", "serving", url=url)
        uvicorn.Server(config).run()
    return 0


def build(
    settings: Settings,
    keys: list[Key],
    clock: Clock,
    stack: ExitStack,
    *,
    find: Callable[[], Finder] | None = None,
    settle: Callable[[], None] = lambda: None,
) -> Serving:
    """Make all parts; what they hold is given back when the stack is closed.

    Parameters
    ----------
    find : callable, optional
        Opens what is searched in; by default what the settings name.
    settle : callable
        Called when a state has been restored.
    """
    settings.state.mkdir(parents=True, exist_ok=True)
    finder = Reconnecting(find or (lambda: open_finder(settings)))
    stack.callback(finder.close)
    breaker, metrics, last_good = Breaker(clock), ServingMetrics(clock), LastGood()
    follower = open_follower(settings, clock, last_good, settle)
    board = Board(follower, settings.state, clock)
    served = ServedLog(_served_sink(settings))
    intake = Intake(_events_sink(settings, stack), clock)
    ladder = Ladder(
        follower,
        finder,
        breaker,
        last_good,
        clock,
        np.random.default_rng(),
        on_trouble=partial(_note_trouble, metrics),
    )
    loops: tuple[Background, ...] = (
        Background("board", board.run),
        Background("served lists", served.run),
        Background("index", finder.run),
        Background("follower", follower.run),
    )
    if settings.canary_every_s is not None:
        flight = partial(canary.watch, settings, metrics.canaries, clock)
        loops += (Background("canaries", flight),)
    metrics.watch(follower, served, lambda: breaker.open)
    metrics.registry.register(StreamFigures(lambda: read_status(settings.state), clock))
    metrics.registry.register(DriftFigures(board.curves))
    readiness = Readiness(
        follower,
        finder,
        clock,
        settings.ready_lag,
        settings.kafka is not None,
        loops,
        breaker,
    )
    routes = Routes(
        follower,
        ladder,
        served,
        intake,
        readiness,
        metrics,
        breaker,
        LatestProfiles(settings.state / "language" / "profiles.jsonl"),
        settings.events_deadline_s,
    )
    threads = stack.enter_context(ThreadPoolExecutor(THREADS, "list"))
    gate = Gate(
        application(routes, BoardRoutes(board, settings), threads),
        Keyring(keys),
        Buckets(settings.key_rate, settings.key_burst, clock),
        metrics,
        Audit(settings.state / "audit.jsonl", clock),
        settings.deadline_s,
        lambda: uuid.uuid4().hex,
        None if keys or settings.unguarded else LOCAL | {settings.host.lower()},
    )
    return Serving(gate, loops)


def _note_trouble(metrics: ServingMetrics, error: Exception) -> None:
    metrics.index_errors.labels(type(error).__name__).inc()
    log.info("the index has no answer", error=f"{type(error).__name__}: {error}")


# -- the parts


def open_finder(settings: Settings) -> Finder:
    """Qdrant's server where one is named, else its engine in the state folder."""
    if settings.qdrant is None:
        return IndexFinder(wiring.open_index(settings))
    key = settings.qdrant_api_key
    return QdrantFinder(
        settings.qdrant,
        api_key=None if key is None else key.get_secret_value(),
        ca=settings.qdrant_ca,
        certificate=settings.qdrant_certificate,
        key=settings.qdrant_key,
    )


def open_follower(
    settings: Settings,
    clock: Clock,
    last_good: LastGood,
    settle: Callable[[], None] = lambda: None,
) -> Follower:
    """A follower of the state that the settings name, and of the topic where there is one."""
    snapshots = SnapshotStore(settings.graph_dir, clock)
    return Follower(
        latest=snapshots.latest,
        restore=lambda: restored(settings, snapshots, clock),
        versions=Versions(settings.models_dir),
        manifest=settings.manifest,
        clock=clock,
        read_on=None if settings.kafka is None else lambda state: _reader(settings, state),
        forget=last_good.forget,
        settle=settle,
    )


def settle() -> None:
    """Have the collector look no more at what is there now: it stays, and there is much of it.

    A full collection stops every thread, for a quarter of a second with 100,000 items.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def restored(settings: Settings, snapshots: SnapshotStore, clock: Clock) -> World | None:
    """A world of the newest snapshot under its own model version; None if there is none."""
    number = snapshots.latest()
    state = snapshots.load(wiring.graph_of(settings), wiring.ordering_of(settings))
    if state is None:
        return None
    live = LiveModel(state.graph, settings.hyper_parameters(), Preferences(settings.state))
    if version := int(str(state.extra["version"])):
        live.use(Versions(settings.models_dir).open(version))
    live.restore(cast(Mapping[str, NDArray[np.float64]], state.arrays))
    embedder = wiring.open_embedder(settings)
    dims = wiring.vector_dims(settings, state.graph.catalog, embedder)
    texts = Texts(state.graph.catalog, embedder)
    campaigns = Campaigns(state.graph, clock)
    campaigns.restore(cast(Mapping[str, NDArray[np.float64]], state.arrays))
    campaigns.changed()
    codec = Codec(Limits(vector_dims=dims), clock)
    return World(state, live, codec, texts, campaigns, snapshot=number)


def _reader(settings: Settings, state: State) -> Source:
    config = ReaderConfig(wiring.cluster(settings), settings.topic, start=settings.start_at)
    return KafkaReader(config, state.positions, state.topics)


def _served_sink(settings: Settings) -> EventSink:
    if settings.kafka is None:
        return FileSink(settings.state / "served.jsonl")
    return wiring.open_topic(settings, settings.served_topic, KafkaSink)


def _events_sink(settings: Settings, stack: ExitStack) -> EventSink | None:
    if settings.kafka is None:
        return None
    with wiring.reaching():
        sink = KafkaSink(
            # A flush waits for a place and for the arrival, and others for the flush: half of each.
            wiring.cluster(settings),
            settings.topic,
            patience_s=settings.events_deadline_s / 4,
        )
    stack.callback(sink.close)
    return sink


def _keys(settings: Settings) -> list[Key]:
    keys = [] if settings.api_keys_file is None else read_keys(settings.api_keys_file)
    if settings.api_keys is not None:
        keys += parse_keys(settings.api_keys.get_secret_value(), "GOAT_API_KEYS")
    return keys


def http_config(settings: Settings) -> uvicorn.Config:
    """The server's options.

    Raises
    ------
    SettingsError
        If the certificate cannot be used.
    """
    files = settings.tls_certificate, settings.tls_key
    config = uvicorn.Config(
        cast(str, None),
        host=settings.host,
        port=settings.port,
        ssl_certfile=files[0],
        ssl_keyfile=files[1],
        interface="asgi3",  # a gate is a plain callable, which is taken for one of the second
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing goes by a caller's address
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEPT_ALIVE_S,
        backlog=2_048,
    )
    if files[0] is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files[0], files[1])
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{files[0]}, {files[1]}: not usable for TLS: {error}") from error
    return config
