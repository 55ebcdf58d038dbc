"""Canaries: what they measure, and that nothing else knows of them."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from consumers import canary as program
from consumers.canaries import KEPT, STAMPS, Canaries, canary_id
from consumers.canary import CanaryFigures, Flock
from consumers.errors import PublishError, ServerUnavailable
from consumers.index import PointBatch, Space, VectorIndex
from consumers.settings import Settings
from consumers.tally import Tally
from stream.batch import Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits, encode
from stream.errors import SinkError
from stream.events import CANARIES, Canary
from tests.consumers.publishing import DIM, NAMES, Open, publish
from tests.consumers.test_live import Stream, live_on
from tests.consumers.test_shaped_restart import opened as program_over

NOW_US = 1_790_000_000_000_000


def event(number: int, name: str, second: int = 0) -> Canary:
    moment = f"2026-01-01T00:00:{second:02}Z"
    told = {"event_id": name, "occurred_at": moment, "number": number}
    return Canary.model_validate_json(json.dumps(told))


def decoded(*values: bytes) -> Any:
    batch = RecordBatch(Partition("t", 0), np.arange(len(values)), values, len(values))
    return Codec(Limits(), ManualClock(NOW_US)).decode(batch)


# -- in the stream


def test_the_codec_hands_them_on_beside_the_events() -> None:
    click = {"type": "click", "event_id": "e", "occurred_at": "2026-01-01T00:00:00Z"}
    click |= {"user_id": "u", "item_id": "i"}
    found = decoded(encode(event(3, "c")), json.dumps(click).encode(), b"nothing")
    assert found.canaries == (event(3, "c"),)
    assert (found.events.row.tolist(), [r.row for r in found.rejects]) == ([1], [2])


@pytest.mark.parametrize("number", [-1, CANARIES, "1", None, 1.5])
def test_there_are_so_many_and_no_more(number: object) -> None:
    told = {"type": "canary", "event_id": "c", "occurred_at": "2026-01-01T00:00:00Z"}
    found = decoded(json.dumps({**told, "number": number}).encode())
    assert not found.canaries and len(found.rejects) == 1
    if not isinstance(number, int) or number >= CANARIES:
        return
    with pytest.raises(ValueError, match="not in 0"):
        canary_id(number)


def test_nobody_can_be_one() -> None:
    """An event whose user is a canary is a dead letter, under whatever type."""
    common = {"event_id": "e", "occurred_at": "2026-01-01T00:00:00Z", "item_id": "i"}
    for kind in ("click", "impression", "erase_user"):
        [reject] = decoded(
            json.dumps({**common, "type": kind, "user_id": canary_id(0)}).encode()
        ).rejects
        assert reject.reason == "invalid_id"


def test_they_leave_no_trace_but_their_count(tmp_path: Path) -> None:
    """A state that took canaries, of the far future too, is that of one that took none."""
    with program_over(tmp_path / "a") as (quiet, ingestor):
        batches = [b for _ in range(8) for b in ingestor.source.poll(30, 0.0)]
        for batch in batches:
            quiet.take(batch)
        digest, watermarks = quiet.state.graph.digest(), dict(quiet.state.orderer.watermarks)
        popularity = quiet.live.to_arrays()
    with program_over(tmp_path / "b") as (singing, _):
        for batch in batches:
            song = [encode(event(n, f"{batch.offsets[0]}-{n}")) for n in range(3)]
            values = [*song, *batch.values]
            offsets = np.arange(len(values))
            singing.take(RecordBatch(batch.partition, offsets, values, len(values)))
        assert singing.tally.balanced and singing.tally.canaries == 3 * len(batches)
        assert singing.state.graph.digest() == digest
        assert dict(singing.state.orderer.watermarks) == watermarks
        assert singing.state.orderer.seen.known(["0-0"]) == set()
        after = singing.live.to_arrays()
        assert all(np.array_equal(after[name], popularity[name]) for name in popularity)
        assert singing.tally.kinds == quiet.tally.kinds


def test_counts_of_before_have_none() -> None:
    stored = Tally(events_in=2, applied=2).to_json()
    del stored["canaries"]
    assert Tally.from_json(stored).balanced


# -- in the index


def test_a_canary_is_as_of_its_last_event_and_says_which() -> None:
    stream = Stream()
    stream.item("north", (1.0, 0.0, 0.0))
    stream.item("east", (0.0, 1.0, 0.0))
    live, canaries = live_on(stream), Canaries()
    nobody = PointBatch([], np.zeros((0, 3), np.float32), [])
    assert canaries.among(nobody, live) is nobody
    vectors: set[tuple[float, ...]] = set()
    for n in range(KEPT + 4):
        canaries.hear([event(5, f"c{n}", n)])
        points = canaries.among(nobody, live)
        assert list(points.ids) == [canary_id(5)]
        stamps = points.payloads[0][STAMPS]
        assert isinstance(stamps, list) and stamps[0] == f"c{n}"
        assert len(stamps) == min(n + 1, KEPT)
        vectors.add(tuple(points.vectors[0].tolist()))
        assert len(canaries.among(nobody, live)) == 0
    assert vectors == {(1.0, 0.0, 1.0), (0.0, 1.0, 1.0)}
    canaries.again()
    assert list(canaries.among(nobody, live).ids) == [canary_id(5)]


def test_before_there_is_an_item_a_canary_is_somebody_new() -> None:
    live, canaries = live_on(Stream()), Canaries()
    canaries.hear([event(0, "c")])
    points = canaries.among(PointBatch([], np.zeros((0, 3), np.float32), []), live)
    assert points.vectors.tolist() == [[0.0, 0.0, 1.0]]


# -- from outside


class Air:
    """A flock over an index, and what was sent."""

    def __init__(self, index: VectorIndex, partitions: int = 2) -> None:
        self.clock, self.index, self.partitions = ManualClock(NOW_US), index, partitions
        self.registry = CollectorRegistry()
        self.sent: list[Canary] = []
        self.refuses = False
        figures = CanaryFigures(self.registry)
        self.flock = Flock(self.send, index, NAMES, figures, self.clock, 60.0)

    def send(self, make: Any) -> int:
        made = [decoded(make(n)).canaries[0] for n in range(self.partitions)]
        if self.refuses:
            raise SinkError("no broker")
        self.sent += made
        return len(made)

    def write(self, canary: Canary, stamps: list[str]) -> None:
        vectors = np.ones((1, DIM), np.float32)
        self._sequence = getattr(self, "_sequence", 1 << 40) + 1
        point = PointBatch([canary_id(canary.number)], vectors, [{STAMPS: stamps}])
        users = self.index.aliases()[NAMES.users]
        self.index.upsert(users, Space.USERS, point, epoch=1, sequence=self._sequence)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def air(index: VectorIndex, opened: Open) -> Air:
    publish(opened(), 1)
    return Air(index)


def test_the_time_is_from_the_event_to_a_search_that_shows_it(air: Air) -> None:
    air.flock.release()
    assert [canary.number for canary in air.sent] == [0, 1]
    air.clock.advance(300_000)
    air.flock.look()
    assert (air.value("goat_canary_seconds_count"), air.flock.flying) == (0, 2)
    air.write(air.sent[0], ["somebody else's", air.sent[0].event_id])
    air.flock.look()
    assert air.value("goat_canary_seconds_count") == 1
    assert air.value("goat_canary_seconds_sum") == pytest.approx(0.3)
    air.clock.advance(700_000)
    air.write(air.sent[1], [air.sent[1].event_id])
    air.flock.look()
    assert air.value("goat_canary_seconds_sum") == pytest.approx(1.3)
    assert air.flock.flying == 0


def test_the_canary_of_before_is_not_taken_for_it(air: Air) -> None:
    air.flock.release()
    air.write(air.sent[0], ["the one before"])
    air.flock.look()
    assert air.value("goat_canary_seconds_count") == 0


def test_one_that_a_search_does_not_show_is_not_seen(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    air.flock.release()
    air.write(air.sent[0], [air.sent[0].event_id])
    nothing: list[object] = []
    monkeypatch.setattr(air.flock.index, "candidates", lambda *_, **__: nothing, raising=False)
    air.flock.look()
    assert air.value("goat_canary_seconds_count") == 0 and air.flock.flying == 2


def test_those_that_are_not_seen_in_time_are_lost(air: Air) -> None:
    air.flock.release()
    air.clock.advance(59_999_999)
    air.flock.look()
    assert air.value("goat_canaries_lost_total", why="unseen") == 0
    air.clock.advance(1)
    air.flock.look()
    assert air.value("goat_canaries_lost_total", why="unseen") == 2
    air.write(air.sent[0], [air.sent[0].event_id])
    air.flock.look()
    assert air.value("goat_canary_seconds_count") == 0


def test_those_that_kafka_does_not_take_are_lost(air: Air) -> None:
    air.refuses = True
    air.flock.release()
    assert (air.value("goat_canaries_lost_total", why="unsent"), air.flock.flying) == (2, 0)


def test_without_a_version_they_fly_on(index: VectorIndex) -> None:
    air = Air(index)
    air.flock.release()
    air.flock.look()
    assert air.flock.flying == 2


def test_servers_that_go_away_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, stop, tries = CollectorRegistry(), threading.Event(), list[int]()

    def cannot(*_: object) -> Flock:
        tries.append(1)
        if len(tries) == 3:
            stop.set()
        raise ServerUnavailable("no Qdrant")

    monkeypatch.setattr(program, "_flock", cannot)
    monkeypatch.setattr(program, "AGAIN_S", 0.0)
    settings = Settings(kafka="k:1", qdrant="http://q", canary_every_s=1.0)
    program.watch(settings, CanaryFigures(registry), ManualClock(NOW_US), stop)
    assert registry.get_sample_value("goat_canaries_lost_total", {"why": "unsent"}) == 3


def test_a_refused_question_loses_none_before_its_time(air: Air) -> None:
    stop, asked = threading.Event(), list[int]()

    class Once:
        def wait(self, _: float) -> bool:
            stop.set()
            return True

        def is_set(self) -> bool:
            return stop.is_set()

    def refuse(*_: object) -> Any:
        asked.append(1)
        raise PublishError("flipped in between")

    air.flock.index = type("Refusing", (), {"aliases": refuse})()
    program._fly(air.flock, 10_000_000, Once())  # type: ignore[arg-type]
    assert asked and air.flock.flying == 2
