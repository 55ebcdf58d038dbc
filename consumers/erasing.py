"""`goat erase`: a user out of every place of a state, and the receipt of it.

1 count what there is, 2 have the event applied: by the program that runs, or here; 3 wait until
only snapshots are kept that were taken after it, 4 take the user out of all other files,
5 sweep the tombstone and write the embedded index anew, 6 count again and search everything. A
crash in between is mended by erasing again: every step may be repeated.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from rich.console import Console

from consumers import finetuner, inventory, receipt, wiring
from consumers.errors import ErasureUnfinished, SettingsError
from consumers.gone import Gone
from consumers.heads import tell_rewriting
from consumers.homes import FOLDER, newest_in, partitions_in
from consumers.index import MAX_SEQUENCE, Space, point_id, to_rfc3339
from consumers.lifecycle import Stop
from consumers.logs import log
from consumers.members import Members
from consumers.pipeline import Pipeline
from consumers.receipt import Receipt
from consumers.retraining import WANTED, Requests
from consumers.scrubbing import scrub
from consumers.settings import Settings
from consumers.versions import Versions
from model.config import ModelConfig
from stream.batch import Partition, RecordBatch
from stream.clock import Clock, SystemClock
from stream.codec import encode
from stream.deadline import Deadline
from stream.errors import StoreInUse
from stream.events import EraseUser
from stream.kafka_sink import KafkaSink
from stream.lookup import Lookup
from stream.snapshot import KEEP, SnapshotStore

HERE = Partition("goat.erase", 0)
"""Where an erasure comes from that no topic holds."""
LOOK_EVERY_S = 0.5
_ADVICE = {
    "topic": "events as the platform sent them: shorten retention.ms, or delete by key yourself",
    "dead_letter_topic": "messages that were refused, whole: give it a short retention.ms",
    "served_topic": "lists that were served: give it a short retention.ms",
    "alert_topic": "alerts of drift may name users: give it a short retention.ms",
}


@dataclass(slots=True)
class Erasure:
    """One user, one state.

    Parameters
    ----------
    settings : Settings
    user : str
    clock : Clock
    wait_s : float
        Longest time for a running program to apply the event and to forget what was before it.
    pause : callable
        How to wait, seconds.
    """

    settings: Settings
    user: str
    clock: Clock
    wait_s: float = 120.0
    pause: Callable[[float], None] = field(default_factory=lambda: Stop().wait)
    through: str = ""
    notes: list[str] = field(default_factory=list[str])
    points: int = 0
    _sent: list[str] = field(default_factory=list[str])

    def run(self) -> Receipt:
        """Erase, and say what became of every place.

        Raises
        ------
        SettingsError
            The id is none that an event could have.
        StateError
            There is no snapshot, or a program without a topic works on the state.
        ErasureUnfinished
            The program that runs has not done its part in time.
        """
        self._event(0)  # before anything is done
        settings, user = self.settings, self.user
        before = inventory.take_stock(settings, user, self.clock)  # 1
        self._apply(before.now_us)  # 2, 3
        tell = partial(tell_rewriting, settings.manifest, self.clock)
        self.notes += scrub(settings.state, user, tell)  # 4
        self._sweep()  # 5
        after = inventory.take_stock(settings, user, self.clock, before.number)  # 6
        salt = uuid.uuid4().hex
        return Receipt(
            who=receipt.digest(salt, user),
            salt=salt,
            at=to_rfc3339(self.clock.now_us()),
            through=self.through,
            snapshot=Lookup(settings.graph_dir).oldest,
            rows=inventory.rows(settings, before, after),
            topics=self._topics(),
            refolded={"items": before.items, "points_published_here": self.points},
            notes=self.notes,
            search=after.search,
        )

    def _event(self, time_us: int) -> bytes:
        """An erasure as of an event time, by an id that names nobody."""
        try:
            event = EraseUser(
                event_id=uuid.uuid4().hex,
                occurred_at=datetime.fromtimestamp(time_us / 1e6, UTC),
                user_id=self.user,
            )
        except ValidationError as error:
            said = error.errors(include_input=False)[0]["msg"]
            raise SettingsError(f"no event can have such a user id: {said}") from None
        self._sent.append(event.event_id)
        return encode(event)

    def _apply(self, time_us: int) -> None:
        self._sent.clear()
        topic = self._send(time_us) if self.settings.kafka is not None else ""
        store = SnapshotStore(self.settings.graph_dir, self.clock)
        try:
            store.acquire()
        except StoreInUse as error:
            if not topic:
                raise StoreInUse(
                    f"{error}. A program that reads no topic cannot be told to erase: let it end"
                ) from None
            self.through = f"{topic}, applied by the program that runs"
            self._await(lambda: self.settings.graph_dir, self._sent)
        else:
            store.close()
            self.through = f"{topic}, and applied here" if topic else "applied here"
            self._apply_here(time_us)
        for folder in partitions_in(self.settings.state / FOLDER):
            number = int(folder.name.rpartition("-")[2])
            self._await(partial(newest_in, folder), self._sent[number : number + 1])

    # -- through the topic

    def _send(self, time_us: int) -> str:
        """Send the event to every partition: wherever the user's events are, one comes after."""
        settings = self.settings
        sink = wiring.open_topic(settings, settings.topic, KafkaSink)
        with closing(sink):
            sent = sink.send_to_all(lambda _: self._event(time_us), self.user.encode())
        log.info("erasure sent", topic=settings.topic, partitions=sent)
        return f"topic {settings.topic}, {sent} partitions"

    def _await(self, where: Callable[[], Path], sent: Sequence[str]) -> None:
        """Until only snapshots are kept in a folder that were taken after these events.

        Parameters
        ----------
        where : callable
            The folder: a partition's is another when it goes to another member.
        sent : event ids
        """
        deadline, since, looked = Deadline.after(self.wait_s), 0, (Path(), -1)
        while True:
            folder = where()
            now = folder, SnapshotStore(folder, self.clock).latest()
            if now != looked:
                since = since if folder == looked[0] else 0
                looked, lookup = now, Lookup(folder)
                since = since or lookup.remembers(sent)
                if since and lookup.oldest >= since:
                    return
            if deadline.passed:
                raise ErasureUnfinished(self._late(folder, since))
            self.pause(LOOK_EVERY_S)

    def _late(self, folder: Path, since: int) -> str:
        settings = self.settings
        if not since:
            return (
                f"{folder}: no snapshot shows the erasure after {self.wait_s:g} s. The"
                f" event is in the topic {settings.topic}. Is the program behind? Erase again,"
                " or with a longer --wait-s"
            )
        return (
            f"{folder}: erased in snapshot {since}, but older ones are kept after"
            f" {self.wait_s:g} s: they go as new ones are taken. Erase again later, or with a"
            " longer --wait-s"
        )

    # -- in this process

    def _apply_here(self, time_us: int) -> None:
        settings, clock = self.settings, self.clock
        with ExitStack() as stack:
            publisher = None
            if (settings.state / "manifest.jsonl").exists():
                publisher = stack.enter_context(closing(wiring.open_publisher(settings, clock)))
            letters = wiring.open_dead_letters(settings, kafka=False)
            stack.callback(letters.close)
            pipeline = wiring.open_pipeline(settings, self._model(), publisher, letters, clock)
            stack.callback(pipeline.texts.close)
            stack.callback(pipeline.snapshots.close)
            pipeline.snapshots.acquire()
            if publisher is not None and partitions_in(settings.state / FOLDER):
                publisher.members = Members(pipeline.state)  # users are theirs to write
            self._go_by_what_is_live(pipeline)
            pipeline.take(RecordBatch(HERE, np.zeros(1, np.int64), [self._event(time_us)], 1))
            del pipeline.state.positions[HERE]
            if publisher is not None:
                publisher.remove(Gone(users=(self.user,)))  # whatever version is live
            self.points = pipeline.publish()
            extra = dict(pipeline.state.extra)
            for _ in range(KEEP):  # each lets the oldest go
                if publisher is not None:
                    publisher.flush()
                pipeline.commit(extra, lambda _: None)

    def _go_by_what_is_live(self, pipeline: Pipeline) -> None:
        """Work under the version that readers see, where the snapshot is of another."""
        versions = Versions(self.settings.models_dir)
        live = 0 if pipeline.publisher is None else pipeline.publisher.live or 0
        if live != pipeline.live.version and live in versions.numbers():
            left, pipeline.live = pipeline.live, pipeline.live.successor(versions.open(live))
            pipeline.live.touch_all(left)
            pipeline.evaluator.follow(pipeline.live)

    def _model(self) -> ModelConfig:
        """What the newest version was learned with; else what the settings say."""
        newest = Versions(self.settings.models_dir).newest()
        if newest is None or "config" not in newest.meta:
            return self.settings.hyper_parameters()
        return ModelConfig.model_validate(newest.meta["config"])

    # -- vectors

    def _sweep(self) -> None:
        """Delete the tombstone: whoever wrote the user's vectors has ended or written it itself."""
        with inventory.vectors(self.settings) as index:
            if index is None:
                return
            own = [point_id(Space.USERS, self.user)]
            found = inventory.collections(self.settings, index, self.clock)
            for name in (name for names in found.values() for name in names):
                index.sweep(name, MAX_SEQUENCE, own)
                index.rewrite(name, Space.USERS)

    def _topics(self) -> dict[str, str]:
        if self.settings.kafka is None:
            return {}
        return {
            str(getattr(self.settings, name)): f"not ours to change; {advice}"
            for name, advice in _ADVICE.items()
        }


def erase(
    settings: Settings,
    user: str,
    *,
    file: Path | None = None,
    wait_s: float = 120.0,
    retrain: bool = False,
    quiet: bool = False,
) -> int:
    """Erase a user, write the receipt; 1 if the user is still found anywhere."""
    done = Erasure(settings, user, SystemClock(), wait_s)
    given = done.run()
    if retrain:
        name = f"erase-{given.who[:16]}"
        for folder in (finetuner.REQUESTS, WANTED):
            Requests(settings.state / folder).ask(name, "a user was erased")
    path = file or settings.state / receipt.FOLDER / f"{given.who[:32]}.json"
    receipt.write(given, path)
    if not quiet:
        receipt.show(Console(), given, path)
    return 0 if given.clean else 1
