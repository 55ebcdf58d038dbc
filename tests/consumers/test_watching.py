"""`goat watch`: an alert reaches everybody once, and what the policy says comes of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers import retraining
from consumers.cli import app
from consumers.drift_state import Posted
from consumers.finetuner import REQUESTS
from consumers.ingestor import Ingestor
from consumers.lifecycle import Stop
from consumers.retraining import WANTED, Requests
from consumers.scheduler import Scheduler
from consumers.settings import Settings
from consumers.watching import Watcher, mute
from stream.clock import ManualClock
from stream.deadline import Deadline
from stream.kafka_sink import KafkaSink
from stream.kafka_topics import KafkaCluster, ensure_topic
from tests.consumers.drifting import CUT, World, begun
from tests.consumers.recorded import Answer, Recorded, recorded

NOW = 1_800_000_000_000_000
CLICKED = "items clicked"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """3,000 events that a version has learned, and as many that have drifted since."""
    found = begun(tmp_path)
    found.events(3_000)
    found.commit()
    found.version()
    return found


@pytest.fixture
def hook() -> Iterator[Recorded]:
    with recorded() as tape:
        yield tape


def settings(root: Path, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "state": root, "drift_window": CUT.window, "drift_reference": CUT.reference,
            "drift_null": CUT.null, "drift_cooldown_s": 0, **more,
        }
    )  # fmt: skip


def watcher(root: Path, clock: ManualClock | None = None, **more: object) -> Watcher:
    return Watcher(settings(root, **more), clock or ManualClock(NOW), None)


def drifted(world: World) -> None:
    world.events(1_500, group=0.7)
    world.commit()


def filed(root: Path) -> list[dict[str, object]]:
    path = root / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_alert_is_sent_once_whoever_restarts(world: World, hook: Recorded) -> None:
    url = f"{hook.base}/hook?token=secret"
    hook.answers = [Answer(status=503), *[Answer({}) for _ in range(20)]]
    assert watcher(world.root, drift_webhook=url).look() == []
    drifted(world)
    first = watcher(world.root, drift_webhook=url)
    names = {alert.name for alert in first.look()}
    assert any(name.startswith("clicked-") for name in names)
    assert first.errors == [f"{hook.asked[0]['name']}: webhook: it answered 503"]
    first.look()
    assert len(hook.asked) == len(names)  # it rests for a minute
    again = watcher(world.root, drift_webhook=url)
    assert again.look() == []
    assert again.look() == []
    assert {one["name"] for one in filed(world.root)} == names
    assert len(filed(world.root)) == len(names)
    assert {one["name"] for one in hook.asked} == names
    assert len(hook.asked) == len(names) + 1
    assert hook.asked[0]["since"]["time"].endswith("Z")


def test_what_takes_no_alert_is_given_up_in_the_end(world: World) -> None:
    clock = ManualClock(NOW)
    more = {"drift_webhook": "http://127.0.0.1:9/secret"}
    watcher(world.root, clock, **more).look()
    drifted(world)
    one = watcher(world.root, clock, **more)
    assert one.look()
    assert one.errors
    assert "secret" not in one.errors[0]
    clock.advance(90_000_000_000)
    one.look()
    one.errors.clear()
    one.look()
    assert one.errors == []


@pytest.mark.parametrize(
    ("policy", "wanted", "anew", "frozen"),
    [
        ("note", False, False, False),
        ("finetune", True, False, False),
        ("retrain", True, True, False),
        ("freeze", False, False, True),
    ],
)
def test_the_policy_says_what_comes_of_it(
    world: World, policy: str, *, wanted: bool, anew: bool, frozen: bool
) -> None:
    watcher(world.root).look()
    drifted(world)
    watcher(world.root, drift_policy=policy).look()
    asked = Requests(world.root / WANTED).waiting()
    assert bool(asked) == wanted
    assert bool(Requests(world.root / REQUESTS).waiting()) == anew
    why = retraining.frozen(world.root)
    assert (why is not None) == frozen
    if why is not None:
        assert "moved" in why
        said = CliRunner().invoke(app, ["publish", "--state", str(world.root)])
        assert said.exit_code == 1
        assert "frozen" in said.output


def test_a_request_is_run_once(tmp_path: Path) -> None:
    class Asked(Scheduler):
        def __init__(self) -> None:
            self.runs = 0

        def request(self) -> None:
            self.runs += 1

    scheduler, requests = Asked(), Requests(tmp_path / WANTED)
    scheduler.request_if(requests)
    requests.ask("clicked-17", "moved")
    scheduler.request_if(requests)
    scheduler.request_if(requests)
    assert scheduler.runs == 1


def test_a_frozen_ingest_keeps_its_version_until_it_thaws() -> None:
    why: list[str | None] = ["moved"]
    pipeline: Any = SimpleNamespace(
        live=SimpleNamespace(version=1),
        state=SimpleNamespace(numbering=0),
        publisher=None,
        adopt=lambda version: version,
        publish=lambda: 0,
    )
    versions: Any = SimpleNamespace(newest=lambda **_: SimpleNamespace(number=2))
    source: Any = None
    clock = ManualClock(NOW)
    ingestor = Ingestor(pipeline, source, versions, clock, Stop(), frozen=lambda: why[0])
    ingestor._look_for_versions()
    assert ingestor._adoption is None
    assert ingestor.doing == "frozen: moved"
    why[0] = None
    clock.advance(2_000_000)
    ingestor._look_for_versions()
    assert ingestor._adoption is not None
    assert ingestor.doing == "publishing version 2"


def test_a_muted_watch_is_remembered_and_not_sent(world: World) -> None:
    clock = ManualClock(NOW)
    watcher(world.root).look()
    drifted(world)
    for name in (CLICKED, "users active", "users against items"):
        mute(settings(world.root), name, "2030-01-01T00:00:00Z")
    one = watcher(world.root, clock, drift_policy="finetune")
    assert {alert.watch for alert in one.look()}
    assert filed(world.root) == []
    assert Requests(world.root / WANTED).waiting() == []
    assert all(posted.muted for posted in one.state.posted)


def test_a_mute_has_an_end(world: World) -> None:
    watcher(world.root).look()
    drifted(world)
    mute(settings(world.root), CLICKED, "2020-01-01T00:00:00Z")
    watcher(world.root).look()
    assert CLICKED in {one["watch"] for one in filed(world.root)}


def test_the_command_looks_once_and_says_what_it_sees(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WINDOW", CUT.window), ("REFERENCE", CUT.reference), ("NULL", CUT.null)):
        monkeypatch.setenv(f"GOAT_DRIFT_{name}", str(value))
    words = ["watch", "--once", "--state", str(world.root)]
    assert "items clicked: quiet" in CliRunner().invoke(app, words).output
    drifted(world)
    figures = tmp_path / "figures.json"
    said = CliRunner().invoke(app, [*words, "--json", str(figures)])
    assert said.exit_code == 0
    assert "items clicked, all" in said.output
    told = json.loads(figures.read_text())
    assert CLICKED in {one["watch"] for one in told["alerts"]}
    assert {"watch": CLICKED, "segment": "all", "answer": "drift"} in told["answers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mute", "the weather", "--until", "2030-01-01T00:00:00Z"], "one of items shown"),
        (["--mute", CLICKED, "--until", "tomorrow"], "RFC 3339"),
        (["--mute", CLICKED, "--until", "2030-01-01T00:00:00"], "zone"),
        (["--drift-policy", "panic"], "drift_policy"),
    ],
)
def test_a_wrong_word_is_answered(tmp_path: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["watch", "--once", "--state", str(tmp_path), *words])
    assert result.exit_code == 1
    assert said in result.output


def test_without_a_version_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert watcher(tmp_path).look() == []


def test_alerts_reach_their_topic(world: World, kafka: str) -> None:
    from kafka import KafkaConsumer

    cluster, topic = KafkaCluster(kafka, {}), f"alerts-{world.root.name}"
    ensure_topic(cluster, topic, Deadline.after(30.0))
    watcher(world.root).look()
    drifted(world)
    sink = KafkaSink(cluster, topic)
    names = [a.name for a in Watcher(settings(world.root), ManualClock(NOW), sink).look()]
    sink.close()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    got = [json.loads(next(consumer).value)["name"] for _ in names]
    consumer.close()
    assert sorted(got) == sorted(names)


def test_an_erased_user_is_named_by_no_alert_that_is_remembered(world: World) -> None:
    one = watcher(world.root)
    one.look()
    known = one.monitor.version
    one.state.posted = [
        Posted(
            alert={"name": watch, "watch": watch, "movers": [{"name": "gone"}]},
            waiting=[],
            posted_us=NOW,
        )
        for watch in ("users active", CLICKED)
    ]
    world.events(200)
    world.commit()
    one.look()
    assert one.monitor.version == known
    names = [posted.alert["movers"][0]["name"] for posted in one.state.posted[:2]]
    assert names == ["", "gone"]
