"""Freshness, measured from outside: a canary event into the topic, and a search that shows it.

`goat serve` sends one to each partition every ``canary_every_s`` seconds. From then on it looks for
the canary's user in the index; once the vector is there that was made from this event, it searches
by the user's id as an ad system does, and the answer ends the time. One that is not seen within
``canary_patience_s`` is lost, and counted.
"""

import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram

from consumers import wiring
from consumers.canaries import STAMPS, canary_id
from consumers.errors import ConsumerError, PublishError, UnknownPoint
from consumers.freshness import BOUNDS_S
from consumers.index import ALL, Names, Space, VectorIndex
from consumers.logs import log
from consumers.settings import Settings
from stream.clock import Clock
from stream.codec import encode
from stream.errors import SinkError
from stream.events import CANARIES, Canary
from stream.kafka_sink import KafkaSink

LOOK_EVERY_S = 0.05
AGAIN_S = 5.0  # after a server was not to be had


class CanaryFigures:
    """What became of the canaries of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "goat_canary_seconds",
            "From a canary's event to a search that shows it",
            buckets=BOUNDS_S,
            registry=registry,
        )
        self.lost = Counter(
            "goat_canaries_lost", "Not seen in time, or not sent", ("why",), registry=registry
        )
        for why in ("unseen", "unsent"):
            self.lost.labels(why)


@dataclass(slots=True)
class Flock:
    """The canaries that are on their way.

    Parameters
    ----------
    send : callable
        Sends what it is asked to make for a partition to each of them.
    index : VectorIndex
    names : Names
        The aliases that readers use.
    patience_s : float
        From an event until it counts as lost.
    """

    send: Callable[[Callable[[int], bytes]], int]
    index: VectorIndex
    names: Names
    figures: CanaryFigures
    clock: Clock
    patience_s: float
    _flying: dict[str, Canary] = field(default_factory=dict[str, Canary])

    @property
    def flying(self) -> int:
        """How many have not been seen yet."""
        return len(self._flying)

    def release(self) -> None:
        """Send one to each partition; those that Kafka does not take are lost."""
        made: list[Canary] = []

        def make(partition: int) -> bytes:
            now = datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC)
            number = partition % CANARIES
            made.append(Canary(event_id=uuid.uuid4().hex, occurred_at=now, number=number))
            return encode(made[-1])

        try:
            self.send(make)
        except SinkError as error:
            self.figures.lost.labels("unsent").inc(max(len(made), 1))
            log.warning("canaries were not sent", error=str(error))
            return
        self._flying.update({canary.event_id: canary for canary in made})

    def look(self) -> None:
        """Note those that a search shows, and give up those that it will not.

        Raises
        ------
        ServerUnavailable
            If the index does not answer.
        """
        numbers = sorted({canary.number for canary in self._flying.values()})
        for canary_seen in self._stamped(numbers):
            canary = self._flying.get(canary_seen)
            if canary is not None and self._searched(canary.number):
                del self._flying[canary_seen]
                self.figures.seconds.observe((self.clock.now_us() - canary.time_us) / 1e6)
        self.expire()

    def expire(self) -> None:
        """Give up those that have been flying for too long."""
        now_us = self.clock.now_us()
        for name, canary in list(self._flying.items()):
            if now_us - canary.time_us >= self.patience_s * 1e6:
                del self._flying[name]
                self.figures.lost.labels("unseen").inc()
                log.warning("a canary is lost", number=canary.number, seconds=self.patience_s)

    def _stamped(self, numbers: list[int]) -> list[str]:
        """Ids of the events that the stored vectors of these canaries are of, or of later ones."""
        users = self.index.aliases().get(self.names.users)
        if users is None or not numbers:
            return []
        stored = self.index.fetch(users, Space.USERS, [canary_id(n) for n in numbers])
        found: list[str] = []
        for point in stored:
            stamps = None if point is None else point.payload.get(STAMPS)
            found += [str(stamp) for stamp in stamps] if isinstance(stamps, list) else []
        return found

    def _searched(self, number: int) -> bool:
        try:
            return bool(self.index.candidates(canary_id(number), 1, ALL, names=self.names))
        except UnknownPoint:  # a version has come in between: it is written there as well
            return False


def watch(settings: Settings, figures: CanaryFigures, clock: Clock, stop: threading.Event) -> None:
    """Send and look for canaries until told to stop; servers that go away are waited for."""
    every_us = int((settings.canary_every_s or 0.0) * 1e6)
    while not stop.is_set():
        try:
            with ExitStack() as stack:
                flock = _flock(settings, figures, clock, stack)
                _fly(flock, every_us, stop)
        except (ConsumerError, SinkError) as error:
            figures.lost.labels("unsent").inc()
            log.warning("no canaries: a server is not to be had", error=str(error))
            stop.wait(AGAIN_S)


def _flock(settings: Settings, figures: CanaryFigures, clock: Clock, stack: ExitStack) -> Flock:
    index = stack.enter_context(closing(wiring.open_index(settings)))
    sink = stack.enter_context(closing(wiring.open_topic(settings, settings.topic, KafkaSink)))

    def send(make: Callable[[int], bytes]) -> int:
        sent = sink.send_to_all(make)
        sink.flush()
        return sent

    names = Names.of(settings.collection)
    return Flock(send, index, names, figures, clock, settings.canary_patience_s)


def _fly(flock: Flock, every_us: int, stop: threading.Event) -> None:
    next_us = flock.clock.now_us()
    while not stop.is_set():
        if flock.clock.now_us() >= next_us:
            flock.release()
            next_us = flock.clock.now_us() + every_us
        if flock.flying:
            try:
                flock.look()
            except PublishError as error:  # refused: a flip between two questions, or for good
                log.info("canaries cannot be looked for", error=str(error))
                flock.expire()
        left_s = (next_us - flock.clock.now_us()) / 1e6
        stop.wait(LOOK_EVERY_S if flock.flying else max(min(left_s, 1.0), LOOK_EVERY_S))
