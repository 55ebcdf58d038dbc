"""`goat serve` as a process beside the others, with real servers: what a caller sees.

The story: events are ingested, a version is learned and published, candidates are asked for over
HTTP; a click sent through the server comes back as history and changes the list; Qdrant stalls,
dies and returns; every list that was served is in the topic; Kafka dies and returns. A Prometheus,
where one is installed, looks on.
"""

import json
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from confluent_kafka import Consumer

from consumers.local_process import free_ports
from consumers.local_qdrant import QdrantAddress
from stream.simulator import Simulator, SimulatorConfig
from tests.system.broker import Broker, broker
from tests.system.conftest import settings_of
from tests.system.proxy import Proxy, proxied
from tests.system.scraping import prometheus

Goat = Callable[..., "subprocess.Popen[bytes]"]
MESSAGES = 1_500
PATIENCE_S = 60.0
DEADLINE_S, EVENTS_DEADLINE_S = 0.5, 3.0
SLACK_S = 0.5  # of a machine that is busy with other tests
READER, PRODUCER, OPERATOR = (f"{name}-0123456789abcdef" for name in ("r", "p", "o"))
KEYS = f"reader read {READER}; producer events {PRODUCER}; operator operate {OPERATOR}"


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path / "kafka") as made:
        yield made


@pytest.fixture
def kafka(own_broker: Broker) -> str:
    return own_broker.bootstrap


@pytest.fixture
def proxy(qdrant: QdrantAddress) -> Iterator[Proxy]:
    with proxied(int(qdrant.url.rpartition(":")[2])) as made:
        yield made


# Of programs that do not run here, and of what has not happened.
IDLE = {
    "max by (watch) (goat_drift)",
    "max by (watch, statistic) (goat_drift_deviations)",
    "goat_overlap_lost_ratio",
    "goat_prequential_recall_ratio",
    "goat_version_compared_clicks",
    "goat_version_held",
    "goat_version_recall_difference_bound",
    "sum by (outcome) (increase(goat_finetunes_total[1h]))",
    "sum by (reason) (rate(goat_messages_refused_total[5m]))",
}


@pytest.fixture
def faults(proxy: Proxy, own_broker: Broker) -> tuple[Proxy, Broker]:
    return proxy, own_broker


class Caller:
    """Asks the server as an ad system would."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.address = f"127.0.0.1:{port}"
        self._client = httpx.Client(base_url=f"http://{self.address}", timeout=10.0)
        self.process = process

    def ask(self, method: str, path: str, key: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return self._client.request(method, path, headers=headers, json=body)

    def candidates(self, **wish: object) -> dict[str, Any]:
        """Ask for a list, within the deadline."""
        began_s = time.monotonic()
        response = self.ask("POST", "/v1/candidates", READER, wish)
        assert time.monotonic() - began_s < DEADLINE_S + SLACK_S
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def eventually(
        self, what: Callable[[], bool], why: Callable[[], object] = lambda: "it did not happen"
    ) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if what():
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            assert self.process.poll() is None, f"goat ended with {self.process.returncode}"
            assert time.monotonic() < until, why()

    def ready(self) -> bool:
        return self._client.get("/readyz").status_code == 200

    def close(self) -> None:
        self._client.close()


def click(user: str, item: str, number: int) -> dict[str, str]:
    return {
        "type": "click",
        "event_id": f"{user}-{item}-{number}",
        "occurred_at": datetime.now(UTC).isoformat(),
        "user_id": user,
        "item_id": item,
    }


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.fixture
def programs(
    kafka: str, qdrant: QdrantAddress, make_topic: Callable[..., str], tmp_path: Path
) -> dict[str, object]:
    topic = make_topic(2)
    more = {"served_topic": f"{topic}.served", "collection": f"serve-{topic}"}
    own = settings_of(kafka, qdrant, topic, tmp_path / "state", **more)
    return own | {"log": "json", "events_deadline_s": EVENTS_DEADLINE_S}


@pytest.fixture
def caller(
    programs: dict[str, object],
    proxy: Proxy,
    produce: Callable[[str, Sequence[bytes]], None],
    goat: Goat,
) -> Iterator[Caller]:
    """A server over a published version, asked through a proxy to Qdrant."""
    this_morning_us = int(datetime.now(UTC).timestamp() * 1e6) - 12 * 3_600_000_000
    world = SimulatorConfig(
        MESSAGES, users=80, items=100, new_items=0.0, removed_items=0.0, start_us=this_morning_us
    )
    produce(str(programs["topic"]), list(Simulator(world, np.random.default_rng(11))))
    assert goat("ingest", "--quiet", "--limit", MESSAGES, **programs).wait(120) == 0
    assert goat("finetune", "--once", **programs).wait(180) == 0
    assert goat("publish", **programs).wait(120) == 0
    [port] = free_ports(1)
    serving = programs | {"qdrant": f"http://127.0.0.1:{proxy.port}", "port": port}
    made = Caller(port, goat("serve", **serving, api_keys=KEYS, deadline_s=DEADLINE_S))
    made.eventually(made.ready)
    yield made
    made.close()


@pytest.mark.slow
def test_a_caller_is_answered_whatever_happens_to_qdrant_and_kafka(
    caller: Caller,
    programs: dict[str, object],
    faults: tuple[Proxy, Broker],
    goat: Goat,
    tmp_path: Path,
) -> None:
    proxy, own_broker = faults
    # A click sent through the server is in the topic, in the history, and not shown again.
    first = caller.candidates(recent=["item-3"], k=30)
    assert (first["rung"], first["version"]) == ("recent", 1)
    chosen = ids(first)[0]
    for number in range(2):
        sent = caller.ask("POST", "/v1/events", PRODUCER, click("newcomer", chosen, number))
        assert (sent.status_code, sent.json()) == (202, {"accepted": 1})
    caller.eventually(lambda: caller.ask("GET", "/v1/users/newcomer", READER).status_code == 200)
    caller.eventually(lambda: caller.ask("GET", "/v1/users/newcomer", READER).json()["events"] == 2)
    mine = caller.candidates(user_id="newcomer", k=30, explain=True)
    assert (mine["rung"], mine["fell"], len(mine["items"])) == ("user", [], 30)
    assert chosen not in ids(mine)
    assert mine["items"][0]["why"]["because"][0]["item_id"] == chosen

    # Qdrant stalls: the last good list, with its age. It dies: the same; for others popularity.
    proxy.stall()
    stale = caller.candidates(user_id="newcomer", k=10)
    assert (stale["rung"], stale["fell"]) == ("stale", ["index_unavailable"])
    assert stale["age_s"] > 0 and ids(stale) == ids(mine)[:10]
    proxy.kill()
    proxy.flow()
    dead = caller.candidates(user_id="user-1", k=10)
    assert dead["rung"] == "popular" and len(dead["items"]) == 10
    for _ in range(6):
        caller.candidates(user_id="newcomer", k=10)
    rested = caller.candidates(user_id="newcomer", k=10)
    assert (rested["rung"], rested["fell"]) == ("stale", ["index_resting"])
    assert not caller.ready()
    proxy.revive()
    caller.eventually(caller.ready)
    caller.eventually(lambda: caller.candidates(user_id="newcomer")["rung"] == "user")

    # Collections that are published anew are adopted.
    assert goat("publish", **programs).wait(120) == 0
    again = f"{programs['collection']}-items-1-2"
    version: Callable[[], dict[str, Any]] = lambda: caller.ask("GET", "/v1/version", READER).json()  # noqa: E731
    caller.eventually(lambda: version()["collection"] == again)
    assert caller.candidates(user_id="newcomer")["rung"] == "user"
    assert version()["lag_messages"] == 0
    text = caller.ask("GET", "/metrics", OPERATOR).text
    assert "goat_follower_lag_messages 0.0" in text and "goat_model_version 1.0" in text

    # Prometheus reads them both, its rules hold, and the dashboard shows what there is to show.
    [port] = free_ports(1)
    live = goat("ingest", "--quiet", "--metrics-port", port, **programs)
    targets = {caller.address: OPERATOR, f"127.0.0.1:{port}": None}
    with prometheus(tmp_path, targets) as scraped:
        if scraped is None:
            warnings.warn("prometheus is not installed: nothing was scraped", stacklevel=1)
        else:
            caller.eventually(lambda: {h for h, _ in scraped.rules().values()} == {"ok"})
            caller.eventually(lambda: scraped.rules()["GoatDown"][1] == "inactive")
            caller.candidates(user_id="newcomer")
            caller.eventually(lambda: scraped.empty() <= IDLE, lambda: scraped.empty() - IDLE)

    live.send_signal(signal.SIGTERM)
    assert live.wait(60) == 0

    # Kafka dies: lists come as before, and who sends events is told that they did not arrive.
    own_broker.kill()
    began_s = time.monotonic()
    lost = caller.ask("POST", "/v1/events", PRODUCER, click("newcomer", "item-5", 9))
    assert time.monotonic() - began_s < EVENTS_DEADLINE_S + SLACK_S
    assert (lost.status_code, lost.json()["type"]) == (
        503,
        "urn:goatstream:problem:events-unavailable",
    )
    assert lost.headers["content-type"] == "application/problem+json"
    for _ in range(3):
        assert caller.candidates(user_id="newcomer")["rung"] == "user"
    caller.eventually(lambda: not caller.ready())
    own_broker.revive()
    again = click("newcomer", "item-5", 9)
    caller.eventually(lambda: caller.ask("POST", "/v1/events", PRODUCER, again).status_code == 202)
    caller.eventually(lambda: caller.ask("GET", "/v1/users/newcomer", READER).json()["events"] == 3)
    caller.eventually(caller.ready)

    caller.process.send_signal(signal.SIGTERM)
    assert caller.process.wait(30) == 0
    served = lists_in(str(programs["kafka"]), str(programs["served_topic"]))
    # While Kafka was away lists may have been lost from the record, and were counted.
    assert {one["rung"] for one in served} == {"recent", "user", "stale", "popular"}
    assert [i["item_id"] for i in served[0]["items"]] == ids(first)
    assert all(0 < i["propensity"] <= 1 for one in served for i in one["items"])
    lines = (tmp_path / "goat.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]  # the rest is for people
    assert not [line for line in lines if line.startswith(("goat:", "Traceback"))]
    assert {"serving", "request", "committed", "the index has no answer"} <= {
        one["event"] for one in said
    }
    assert not {READER, PRODUCER, OPERATOR} & set(json.dumps(said).split('"'))


def lists_in(kafka: str, topic: str) -> list[dict[str, Any]]:
    """All messages of a topic, by another client library."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"{topic}-reader",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    found: list[dict[str, Any]] = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error() is not None:
            break  # the end of its only partition
        found.append(json.loads(message.value() or b"null"))
    consumer.close()
    return found
