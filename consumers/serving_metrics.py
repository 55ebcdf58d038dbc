"""Figures of a server for Prometheus: few labels, units in the names."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.asking import Answer
from consumers.canary import CanaryFigures
from consumers.follower import Follower
from consumers.served import ServedLog
from stream.clock import Clock

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class ServingMetrics:
    """All figures of one server.

    Parameters
    ----------
    clock : Clock
    """

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self.requests = Counter(
            "goat_http_requests",
            "Requests answered",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "goat_http_request_duration_seconds",
            "From arrival to the last byte handed over",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lists = Counter(
            "goat_lists_served", "Lists served, by rung", ("rung",), registry=self.registry
        )
        self._stale = Gauge(
            "goat_stale_age_seconds", "Age of the last stale list", registry=self.registry
        )
        self.index_errors = Counter(
            "goat_index_errors", "Searches that failed", ("kind",), registry=self.registry
        )
        self.canaries = CanaryFigures(self.registry)
        self.events = Counter(
            "goat_events_accepted", "Events sent into the topic", registry=self.registry
        )

    def watch(self, follower: Follower, served: ServedLog, resting: Callable[[], bool]) -> None:
        """Show these as they are when asked."""
        shown: dict[str, tuple[str, Callable[[], float]]] = {
            "goat_follower_lag_messages": ("Not yet applied; -1 unknown", lambda: _lag(follower)),
            "goat_follower_lag_age_seconds": (
                "Since the lag was known",
                lambda: (self._clock.now_us() - follower.lag_us) / 1e6 if follower.lag_us else -1,
            ),
            "goat_model_version": ("Served; 0 before the first", lambda: _version(follower)),
            "goat_index_resting": ("1 while the index is not asked", lambda: float(resting())),
        }
        for name, (meaning, value) in shown.items():
            Gauge(name, meaning, registry=self.registry).set_function(value)
        self.registry.register(_Counted(follower, served))

    def note(self, answer: Answer) -> None:
        """Count a list."""
        self._lists.labels(answer.rung.value).inc()
        if answer.age_s is not None:
            self._stale.set(answer.age_s)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class _Counted(Collector):
    """What is counted elsewhere."""

    def __init__(self, follower: Follower, served: ServedLog) -> None:
        self._follower, self._served = follower, served

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "goat_follower_applied_messages", "Since the start", value=self._follower.applied
        )
        lists = CounterMetricFamily(
            "goat_recorded_lists",
            "Lists for the record: sent, dropped for lack of room, lost by the sink",
            labels=["outcome"],
        )
        for outcome in ("sent", "dropped", "lost"):
            lists.add_metric([outcome], getattr(self._served, outcome))
        yield lists


def _lag(follower: Follower) -> float:
    return -1.0 if follower.lag is None else float(follower.lag)


def _version(follower: Follower) -> float:
    with follower.reading() as world:
        return 0.0 if world is None else float(world.live.version)
