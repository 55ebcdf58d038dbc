"""Figures for Prometheus: what the fast path, the drift monitor and fine-tunes have to tell.

Collectors read values that are replaced as a whole once a second or at each look, so that a scrape,
which is a thread of its own, never sees half of one.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from consumers.errors import SettingsError
from consumers.freshness import cumulative
from consumers.settings import Settings
from consumers.status import Status, Writes
from consumers.trying import Tried
from stream.clock import Clock

Curves = Sequence[Mapping[str, object]]
ANSWERS = {"not enough data": -1.0, "quiet": 0.0, "drift": 1.0}


class StreamFigures(Collector):
    """The fast path's.

    Parameters
    ----------
    read : callable
        Its status; None where there is none, and then nothing is told.
    clock : Clock
    """

    def __init__(self, read: Callable[[], Status | None], clock: Clock) -> None:
        self._read, self._clock = read, clock

    def collect(self) -> Iterable[Metric]:
        status = self._read()
        if status is None:
            return
        yield _gauge(
            "goat_status_age_seconds",
            "Since the fast path last said anything",
            (self._clock.now_us() - status.at_us) / 1e6,
        )
        applied = CounterMetricFamily(
            "goat_messages_applied", "Messages that had their effect", labels=["kind"]
        )
        for kind, count in status.kinds.items():
            applied.add_metric([kind], count)
        yield applied
        refused = CounterMetricFamily(
            "goat_messages_refused", "Dead letters, late messages among them", labels=["reason"]
        )
        for reason, count in status.reasons.items():
            refused.add_metric([reason], count)
        yield refused
        turned = CounterMetricFamily(
            "goat_transitions",
            "Impressions clicked, clicks converted, conversions without a known cause",
            labels=["transition"],
        )
        for transition, count in status.transitions.items():
            turned.add_metric([transition], count)
        yield turned
        yield CounterMetricFamily(
            "goat_messages_repeated", "Messages seen before", value=status.duplicates
        )
        if status.lag is not None:
            yield _gauge("goat_source_lag_messages", "Behind the end of the source", status.lag)
        yield HistogramMetricFamily(
            "goat_event_to_searchable_seconds",
            "From a message's arrival to its vectors being searchable, by refreshes",
            buckets=cumulative(status.freshness_counts),
            sum_value=status.freshness_total_s,
        )
        yield from _of_writes(status.writes)
        yield from _of_trial(status.trial)
        size = GaugeMetricFamily("goat_graph_size", "Of the graph", labels=["of"])
        for name, count in (
            ("edges", status.edges),
            ("users", status.users),
            ("items", status.items),
        ):
            size.add_metric([name], count)
        yield size
        yield _gauge("goat_stream_model_version", "Of the fast path; 0 before any", status.version)
        recall = GaugeMetricFamily(
            "goat_prequential_recall_ratio", "Recall@20 of late, before learning", labels=["method"]
        )
        for method, value in (("goat", status.recall), ("popularity", status.popularity_recall)):
            if value is not None:
                recall.add_metric([method], value)
        yield recall


class DriftFigures(Collector):
    """The drift monitor's.

    Parameters
    ----------
    read : callable
        What `Monitor.curves` said at the last look; None where nobody has looked.
    """

    def __init__(self, read: Callable[[], Curves | None]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        curves = self._read()
        if curves is None:
            return
        answer = GaugeMetricFamily(
            "goat_drift", "1 drift, 0 quiet, -1 not enough data", labels=["watch"]
        )
        moved = GaugeMetricFamily(
            "goat_drift_deviations",
            "Distance of the last window, in deviations of its null",
            labels=["watch", "statistic"],
        )
        for one in curves:
            watch, deviations = str(one["watch"]), one["deviations"]
            answer.add_metric([watch], ANSWERS[str(one["answer"])])
            for name, values in deviations.items() if isinstance(deviations, dict) else ():
                if values:
                    moved.add_metric([watch, str(name)], float(values[-1]))
        yield answer
        yield moved


class FineTuneFigures:
    """What came of the fine-tunes of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Counter("goat_finetunes", "Fine-tunes ended", ("outcome",), registry=registry)
        self._last = Gauge(
            "goat_finetune_last_success_timestamp_seconds", "Unix time", registry=registry
        )
        for outcome in ("done", "failed"):
            self._runs.labels(outcome)

    def note(self, error: str | None) -> None:
        """Count a fine-tune."""
        self._runs.labels("done" if error is None else "failed").inc()
        if error is None:
            self._last.set_to_current_time()


@contextmanager
def exposed(settings: Settings) -> Generator[CollectorRegistry]:
    """A registry whose figures are served while the block runs, if the settings name a port.

    Raises
    ------
    SettingsError
        If the port cannot be listened on.
    """
    registry, port = CollectorRegistry(), settings.metrics_port
    if port is None:
        yield registry
        return
    try:
        server, thread = start_http_server(port, settings.metrics_host, registry)
    except OSError as error:
        where = f"{settings.metrics_host}:{port}"
        raise SettingsError(f"--metrics-port: {where}: {error.strerror}") from error
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _of_writes(writes: Writes) -> Iterable[Metric]:
    points = CounterMetricFamily(
        "goat_points", "Points touched, by what became of it", labels=["outcome"]
    )
    points.add_metric(["written"], writes.written)
    points.add_metric(["saved"], writes.saved)
    yield points
    yield _gauge("goat_points_waiting", "Points behind what is known", writes.waiting)
    if writes.overlap_lost is not None:
        yield _gauge(
            "goat_overlap_lost_ratio",
            "Of the best 20, by items that wait, on a sample of users",
            writes.overlap_lost,
        )
    yield _gauge(
        "goat_index_backlog_points", "Items stored, but not in the index's graph", writes.backlog
    )
    yield _gauge("goat_index_behind", "1 while items are held back for it", writes.held)


def _of_trial(trial: Tried) -> Iterable[Metric]:
    decided = CounterMetricFamily(
        "goat_versions_decided", "Verdicts on new versions", labels=["verdict"]
    )
    for verdict, count in trial.verdicts.items():
        decided.add_metric([verdict], count)
    yield decided
    if trial.compared is None:
        return
    bounds = GaugeMetricFamily(
        "goat_version_recall_difference_bound",
        "Of Recall@20, the new version's minus the other's, while they are compared",
        labels=["clicks", "bound"],
    )
    clicks = GaugeMetricFamily(
        "goat_version_compared_clicks", "That both versions were asked", labels=["clicks"]
    )
    for name, seen in (("all", trial.compared.every), ("cold", trial.compared.cold)):
        bounds.add_metric([name, "low"], seen.low)
        bounds.add_metric([name, "high"], seen.high)
        clicks.add_metric([name], seen.events)
    yield bounds
    yield clicks
    yield _gauge(
        "goat_version_held", "1 while readers do not see the new version yet", trial.compared.held
    )


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
