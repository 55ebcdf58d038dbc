"""`goat watch`: the drift monitor beside whatever writes snapshots and model versions.

It reads the state folder and writes only in ``drift/`` there, its alerts and its requests. The
order of a look: 1 measure, 2 make durable what was found, 3 act on it by the policy, 4 send it.
A crash in between repeats 3 and 4, which are the same once or twice.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from consumers import finetuner, wiring
from consumers.alerts import Alert
from consumers.drift import DriftConfig
from consumers.drift_state import DriftState
from consumers.errors import SettingsError
from consumers.index import to_rfc3339
from consumers.lifecycle import Stop
from consumers.logs import log
from consumers.metrics import DriftFigures, exposed
from consumers.report import write_json
from consumers.retraining import FROZEN, WANTED, Requests
from consumers.scene import ALL, Scene, Watch
from consumers.series import Cut
from consumers.settings import Settings
from consumers.times import time_us
from consumers.versions import Versions
from stream.clock import Clock, SystemClock
from stream.errors import SinkError
from stream.kafka_sink import KafkaSink
from stream.segments import replace_file
from stream.snapshot import SnapshotStore

FOLDER = "drift"
ALERTS = "alerts.jsonl"
CURVES = "curves.json"
ACKNOWLEDGED = "acknowledged"
"""Folder, beside the monitor's state, with a file for each alert that a person has seen."""
FILE, TOPIC, WEBHOOK = "file", "topic", "webhook"
WEBHOOK_TIMEOUT_S = 10.0
LOOK_EVERY_S = 1.0
REST_US = 60_000_000
"""Wall time after which a place that has not taken an alert is tried again,"""
TRIED_US = 86_400_000_000
"""and for which."""


class Watcher:
    """Looks, remembers, acts and sends.

    Parameters
    ----------
    settings : Settings
    clock : Clock
    topic : KafkaSink, optional
    """

    def __init__(self, settings: Settings, clock: Clock, topic: KafkaSink | None) -> None:
        self.settings, self.clock, self._topic = settings, clock, topic
        self.state = DriftState(settings.state / FOLDER)
        self.monitor = self.state.load(config_of(settings))
        self._snapshots = SnapshotStore(settings.graph_dir, clock)
        self._looked = (0, 0)
        self._rests_until_us = 0
        self.errors: list[str] = []
        self.curves: list[dict[str, object]] | None = None

    def look(self) -> list[Alert]:
        """Judge what is new, if anything is; what was found."""
        versions = Versions(self.settings.models_dir)
        version = versions.newest()
        if version is None:
            return []
        alerts: list[Alert] = []
        now = (self._snapshots.latest(), version.number)
        if now != self._looked:
            snapshot = finetuner.newest_graph(self.settings.graph_dir, self.settings.window_us)
            self.state.forget(snapshot.users)
            alerts = self.monitor.look(Scene(snapshot, version))  # 1
            self.state.post(alerts, self._places(), self._muted(), self.clock.now_us())
            self.state.save(self.monitor)  # 2
            self.curves = self.monitor.curves()
            replace_file(self.state.root / CURVES, json.dumps(self.curves).encode())
            self._looked = now
            for alert in alerts:
                self._act(alert)  # 3
        if alerts or self.clock.now_us() >= self._rests_until_us:
            self._send()  # 4
        return alerts

    def _places(self) -> list[str]:
        places = [FILE]
        if self._topic is not None:
            places.append(TOPIC)
        if self.settings.drift_webhook is not None:
            places.append(WEBHOOK)
        return places

    def _muted(self) -> set[str]:
        """Watches that are muted now; a mute that has ended is forgotten."""
        requests, now = mutes(self.settings.state), self.clock.now_us()
        ended = [one.name for one in requests.waiting() if _until_us(one.reason) <= now]
        requests.remove(ended)
        return {one.name.replace("-", " ") for one in requests.waiting()}

    def _act(self, alert: Alert) -> None:
        policy, root = self.settings.drift_policy, self.settings.state
        if policy == "note" or alert.watch in self._muted():
            return
        if policy == "freeze":
            replace_file(root / FROZEN, json.dumps({"reason": str(alert)}).encode())
            return
        if policy == "retrain":
            Requests(root / finetuner.REQUESTS).ask(alert.name, str(alert))
        Requests(root / WANTED).ask(alert.name, str(alert))

    def _send(self) -> None:
        """Offer alerts to every place that has yet to take them, once each; rest if one failed."""
        now_us, taken = self.clock.now_us(), False
        for one in self.state.posted:
            for place in list(one.waiting):
                failed = self._give(place, one.alert)
                if failed is not None:
                    self.errors.append(f"{one.alert['name']}: {failed}")
                    self._rests_until_us = now_us + REST_US
                if failed is None or now_us - one.posted_us > TRIED_US:
                    one.waiting.remove(place)
                    taken = True
        if taken:
            self.state.save(self.monitor)

    def _give(self, place: str, alert: Mapping[str, Any]) -> str | None:
        """Hand an alert over; what went wrong."""
        text = json.dumps(alert)
        if place == FILE:
            with (self.settings.state / ALERTS).open("a") as file:
                file.write(text + "\n")
        elif place == TOPIC and self._topic is not None:
            try:
                self._topic.send([text.encode()], [str(alert["watch"]).encode()])
                self._topic.flush()
            except SinkError as error:
                return str(error)
        elif place == WEBHOOK and (hook := self.settings.drift_webhook) is not None:
            return _post(hook.get_secret_value(), text)
        return None


def _post(url: str, text: str) -> str | None:
    """Post to a webhook; what went wrong, without the address, which may hold a secret."""
    headers = {"content-type": "application/json"}
    try:
        answer = httpx.post(url, content=text, headers=headers, timeout=WEBHOOK_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"webhook: {type(error).__name__}"
    return None if answer.is_success else f"webhook: it answered {answer.status_code}"


def config_of(settings: Settings) -> DriftConfig:
    """What the settings say of drift."""
    return DriftConfig(
        cut=Cut(settings.drift_window, settings.drift_reference, settings.drift_null),
        detector=settings.drift_detector,
        chance=settings.drift_chance,
        segments=settings.drift_segments,
        cooldown_us=int(settings.drift_cooldown_s * 1e6),
        seed=settings.seed,
    )


def mutes(state: Path) -> Requests:
    """Watches that are muted: a file each, its reason the end as RFC 3339."""
    return Requests(state / FOLDER / "muted")


def mute(settings: Settings, watch: str, until: str) -> None:
    """Say nothing of a watch until a time.

    Raises
    ------
    SettingsError
        There is no such watch, or the time is none.
    """
    if watch not in list(Watch):
        raise SettingsError(f"--mute {watch!r}: one of {', '.join(Watch)}")
    name, said = watch.replace(" ", "-"), to_rfc3339(_until_us(until))
    requests = mutes(settings.state)
    requests.remove([name])
    requests.ask(name, said)


def _until_us(text: str) -> int:
    return time_us(text, "--until")


def watch(settings: Settings, *, once: bool, json_file: Path | None, quiet: bool) -> int:
    """Look once, or whenever a snapshot or a version is new; see `consumers.cli.watch`."""
    clock = SystemClock()
    with ExitStack() as stack:
        topic = None
        if settings.kafka is not None:
            alerts = wiring.open_topic(settings, settings.alert_topic, KafkaSink)
            topic = stack.enter_context(closing(alerts))
        watcher = Watcher(settings, clock, topic)
        stack.enter_context(exposed(settings)).register(DriftFigures(lambda: watcher.curves))
        console = Console(quiet=quiet)
        stop = stack.enter_context(Stop().listening())
        while True:
            for alert in watcher.look():
                console.print(str(alert), soft_wrap=True, markup=False, highlight=False)
                log.info("drift", alert=alert.name, watch=alert.watch, version=alert.version)
            while watcher.errors:
                log.warning("not delivered", error=watcher.errors.pop())
            if once or stop.requested:
                break
            stop.wait(LOOK_EVERY_S)
        if once:
            _summarise(watcher, console, json_file)
    return 0


def _summarise(watcher: Watcher, console: Console, json_file: Path | None) -> None:
    answers = [
        {"watch": watch.value, "segment": segment, "answer": answer}
        for (watch, segment), answer in watcher.monitor.answers().items()
    ]
    alerts = [one.alert for one in watcher.state.posted]
    for one in answers:
        if one["segment"] == ALL:
            console.print(f"{one['watch']}: {one['answer']}", highlight=False)
    if json_file is not None:
        write_json(json_file, {"answers": answers, "alerts": alerts})
