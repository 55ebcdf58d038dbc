"""The loop of the fast path: poll, take, publish, commit; and adopt versions as they come.

From files a fine-tune that falls due is waited for, so that a replay is repeatable to the digit;
live it never is. See docs/decisions/0003.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from consumers.errors import FineTuneFailed, PublishError, Superseded, VersionMissing
from consumers.freshness import Freshness
from consumers.lifecycle import Stop
from consumers.logs import log
from consumers.pipeline import Pipeline
from consumers.publisher import Publisher
from consumers.retraining import Requests
from consumers.returning import go_back
from consumers.scheduler import Scheduler
from consumers.sweeping import Sweeper
from consumers.tracing import span
from consumers.versions import Version, Versions
from stream.batch import RecordBatch
from stream.clock import Clock
from stream.source import Source
from stream.state import JSON

POLL_TIMEOUT_S = 0.2
LOOK_EVERY_S = 1.0  # between looks for versions that another process wrote
FINETUNE_TIMEOUT_S = 3_600.0
_RECENT = 64


@dataclass(slots=True)
class Ingestor:
    """Runs a pipeline over a source until it ends or is stopped.

    Parameters
    ----------
    scheduler : Scheduler, optional
        Fine-tunes in a worker of this process; without it versions of others are adopted.
    replay : bool
        Wait for each fine-tune; the source ends.
    limit : int, optional
        Stop after this many messages.
    batch : int
        Messages applied at a time.
    snapshot_every_s : float
        Seconds between two snapshots.
    on_step : callable
        Called after every step, for the progress display.
    wanted : Requests, optional
        Live: requests to fine-tune now.
    rollbacks : Requests, optional
        Live: requests to return to an earlier version, which their names end with.
    frozen : callable
        Live: why no new version is to be served, or None.
    tell_members : callable
        Called after every step, where others write users.
    """

    pipeline: Pipeline
    source: Source
    versions: Versions
    clock: Clock
    stop: Stop
    scheduler: Scheduler | None = None
    replay: bool = False
    limit: int | None = None
    batch: int = 2_000
    snapshot_every_s: float = 10.0
    on_step: Callable[[], None] = lambda: None
    wanted: Requests | None = None
    rollbacks: Requests | None = None
    frozen: Callable[[], str | None] = lambda: None
    tell_members: Callable[[], None] = lambda: None
    doing: str = "starting"
    errors: list[str] = field(default_factory=list[str])
    freshness: Freshness = field(default_factory=Freshness)
    _taken: int = 0
    _began_s: float = 0.0
    _committed_s: float = 0.0
    _looked_s: float = 0.0
    _warming: bool = False
    _sweeper: Sweeper = field(default_factory=Sweeper)
    _adoption: Generator[None] | None = None
    _rate: deque[tuple[float, int]] = field(
        default_factory=lambda: deque[tuple[float, int]](maxlen=_RECENT)
    )

    def run(self) -> None:
        """Go on until the source ends, the limit is reached or a stop is asked for."""
        if self.scheduler is not None:
            self.scheduler.start()
        try:
            self._run()
        finally:
            if self.scheduler is not None:
                self.scheduler.close()

    def _run(self) -> None:
        self._resume(self.pipeline.state.extra)
        if self.replay and self.scheduler is not None and self.scheduler.due_in() == 0:
            self._improve()
        while not self.stop.requested and self._left() > 0 and not self.source.exhausted:
            self.step()
        if self._adoption is not None and self.waits_for:
            self._give_up_adopting()
        self.pipeline.trial.ending = True
        self._finish_adopting()
        if self.replay and not self.pipeline.live.ready and not self.stop.requested:
            self._improve()
        self._publish(everything=True)
        self._commit()

    def _resume(self, extra: Mapping[str, object]) -> None:
        """Go on where the snapshot was taken that left this behind."""
        self._began_s = self._committed_s = self._now_s()
        self._warming = bool(extra.get("warming", False))
        if self.scheduler is not None:
            self.scheduler.noted = int(str(extra.get("since_finetune", 0)))
        publisher = self.pipeline.publisher
        if publisher is None:
            return
        if publisher.live is None:
            publisher.frontier.let_go(set(publisher.frontier.ahead))  # nobody sees anything
        if extra.get("behind"):  # saved before what had been touched could be written
            self.pipeline.live.touch_all()
        self._look_back()
        if self.replay and self._unserved(publisher):
            self._serve_ours(publisher)
            self._finish_adopting()

    def _serve_ours(self, publisher: Publisher) -> None:
        """Have readers see our version, unless they were taken back from it: then see theirs."""
        number = self.pipeline.live.version
        if publisher.live is not None and number <= publisher.published.withdrawn:
            self._go_on_under(publisher.live)
        else:
            self._begin_adopting(self.versions.open(number))

    def _go_on_under(self, number: int) -> None:
        """Go on under the version that readers were taken back to, with what has come since."""
        try:
            self._return_to(self.versions.open(number))
        except (PublishError, VersionMissing) as error:
            self._failed("rollback", str(error))

    def step(self) -> None:
        """Poll once and do all that follows from it."""
        self.doing = "reading events"
        arrived_s = self._now_s()
        batches = self.source.poll(self._room(), POLL_TIMEOUT_S)
        for batch in batches:
            with span("take", partition=str(batch.partition), messages=len(batch)):
                self._take(batch)
        with span("publish"):
            published = self._publish()
        if published:
            self.freshness.note(self._now_s() - arrived_s)
        self._rate.append((self._now_s(), self.pipeline.tally.events_in))
        self._look_back()
        self._go_on_adopting()
        self._look_for_versions()
        if self._now_s() - self._committed_s >= self.snapshot_every_s:
            self._commit()
        self.tell_members()
        self.on_step()

    def _publish(self, *, everything: bool = False) -> int:
        """Have what was touched written; how many points. Not before readers' place is reached."""
        publisher = self.pipeline.publisher
        if publisher is None or self._behind(publisher):
            return 0
        return self.pipeline.publish(everything=everything)

    def _behind(self, publisher: Publisher) -> bool:
        """Whether what is known now is older than what readers see."""
        positions, waited_s = self.pipeline.state.positions, self._now_s() - self._began_s
        frontier = publisher.frontier
        lag = self.source.lag() if frontier.ahead else {}
        return not frontier.caught_up(positions, lag, waited_s)

    def _take(self, batch: RecordBatch) -> None:
        if batch.history:
            self._warming = True
        elif self._warming:  # the history ends here: learn it before anything is scored
            self._improve()
            self._warming = False
        self.pipeline.take(batch)
        self._taken += len(batch)
        if self.scheduler is not None and not batch.history and self.scheduler.note(len(batch)):
            self._improve()

    def _improve(self) -> None:
        """Have the model fine-tuned: now and waited for in a replay, on the side when live."""
        if self.scheduler is None:
            return
        if not self.replay:
            self.scheduler.request()
            return
        self._publish()
        self._commit()
        self.doing = "fine-tuning"
        self.on_step()
        self.scheduler.request()
        outcome = self.scheduler.wait(FINETUNE_TIMEOUT_S)
        if outcome.value is None:
            raise FineTuneFailed(f"the fine-tune ended with {outcome.error}")
        self._begin_adopting(self.versions.open(int(outcome.value)))
        self._finish_adopting()

    def _look_for_versions(self) -> None:
        """Live: take up what a fine-tune of ours or of another process has written."""
        while self.scheduler is not None and (outcome := self.scheduler.finished()) is not None:
            self._looked_s = 0.0
            if outcome.error is not None:
                self._failed("fine-tune", outcome.error)
        if self._now_s() - self._looked_s < LOOK_EVERY_S or not self._may_turn_to_others():
            return
        publisher = self.pipeline.publisher
        if publisher is not None and self._behind(publisher):
            return
        self._looked_s = self._now_s()
        self._roll_back()
        if self.replay or self._adoption:
            return
        if publisher is not None and self._unserved(publisher):
            self._serve_ours(publisher)
            return
        if self.scheduler is not None and self.wanted is not None:
            self.scheduler.request_if(self.wanted)
        newest = self.versions.newest(numbering=self.pipeline.state.numbering)
        past = {self.pipeline.live.version}
        if publisher is not None:
            past |= {publisher.published.withdrawn, *publisher.published.turned_away}
        if newest is not None and newest.number > max(past):
            if (why := self.frozen()) is None:
                self._begin_adopting(newest)
            else:
                self.doing = f"frozen: {why}"

    def _may_turn_to_others(self) -> bool:
        """Whether no version is on its way, or one is held and a person wants another."""
        if self._adoption is None:
            return True
        asked = self.rollbacks is not None and self.rollbacks.waiting()
        publisher = self.pipeline.publisher
        if asked and self.pipeline.trial.holding and publisher is not None:
            self._give_up_adopting()
            publisher.give_up()
            return True
        return False

    def _look_back(self) -> None:
        """Return from the version that was published last, if it is shown to do harm."""
        pipeline, trial = self.pipeline, self.pipeline.trial
        if pipeline.publisher is None or trial.before is None or self._adoption is not None:
            return
        if (before := trial.wanted_back) is None:
            trial.note(pipeline.publisher)
            return
        self._publish()
        self._commit()  # what it is decided by: after a crash the same is decided
        trial.take_back(pipeline.publisher, before)
        self._adoption = self._answering(go_back(pipeline, before), None)
        if self.replay:
            self._finish_adopting()

    def _unserved(self, publisher: Publisher) -> bool:
        """Whether our version is not what readers see: the index is new, or it was not finished."""
        live = self.pipeline.live
        return live.ready and (publisher.live or 0) < live.version

    def _roll_back(self) -> None:
        """Return to the version that a person asked for, if it is still kept."""
        if self.rollbacks is None:
            return
        for request in self.rollbacks.waiting():
            try:
                number = int(request.name.rpartition("-")[2])
                self._return_to(self.versions.open(number), request.name)
            except Superseded:
                raise
            except (PublishError, VersionMissing) as error:
                self._failed("rollback", str(error))
                self.rollbacks.remove([request.name])
            else:
                return

    def _return_to(self, version: Version, request: str | None = None) -> None:
        """Serve an earlier version again, whose collections are kept, as it would be by now."""
        pipeline = self.pipeline
        if version.numbering != pipeline.state.numbering:
            raise PublishError(
                f"version {version.number} was learned before the state was rebuilt without some "
                "events: it cannot go on from here"
            )
        pipeline.trial.forget()
        self.doing = f"returning to version {version.number}"
        self._publish()
        back = go_back(pipeline, pipeline.live.successor(version))
        self._adoption = self._answering(back, request)

    def _answering(self, back: Iterator[None], request: str | None) -> Generator[None]:
        """Keep the request until readers are back: a crash on the way leaves it."""
        yield from back
        if self.rollbacks is not None and request is not None:
            self.rollbacks.remove([request])

    def _begin_adopting(self, version: Version) -> None:
        self.doing = f"publishing version {version.number}"
        self._publish()  # its items are filled with the state of campaigns as told so far
        self._adoption = self.pipeline.adopt(version)

    def _go_on_adopting(self) -> None:
        if self._adoption is None:
            return
        for _ in self._adoption:
            if why := self.waits_for:
                self.doing = why
            return
        self._adoption = None
        log.info("serving a version", version=self.pipeline.live.version)
        self._publish()
        self._commit()

    @property
    def waits_for(self) -> str | None:
        """What of a version members have not written yet, which is filled otherwise."""
        publisher = self.pipeline.publisher
        return None if publisher is None else publisher.waits_for

    def _give_up_adopting(self) -> None:
        """Leave a version that is on its way, to whoever goes on here."""
        if self._adoption is not None:
            self._adoption.close()
            self._adoption = None

    def _finish_adopting(self) -> None:
        while self._adoption is not None:
            self._go_on_adopting()

    def _commit(self) -> None:
        self.doing = "committing"
        noted = self.scheduler.noted if self.scheduler is not None else 0
        progress: dict[str, JSON] = {"warming": self._warming, "since_finetune": noted}
        progress["embedder"] = self.pipeline.texts.name
        publisher = self.pipeline.publisher
        waits = publisher is not None and (publisher.frontier.ahead or self.pipeline.live.departed)
        progress["behind"] = bool(waits)
        with span("commit"):
            if publisher is not None:
                self._sweeper.look(publisher, self.clock.now_us())
                publisher.flush()
            info = self.pipeline.commit(progress, self.source.advise)
        positions = {str(partition): offset for partition, offset in info.positions.items()}
        log.info("committed", snapshot=info.number, positions=positions)
        self._committed_s = self._now_s()

    def _failed(self, what: str, error: str) -> None:
        log.warning(f"{what} failed", error=error)
        self.errors.append(error)

    def _left(self) -> int:
        return self.batch if self.limit is None else self.limit - self._taken

    def _room(self) -> int:
        """How many messages the next poll may bring.

        In a replay up to where a fine-tune falls due, and to the next multiple of the batch: scores
        see popularity as of a batch's begin, so a replay that was stopped is cut where it was.
        """
        room = min(self.batch, self._left())
        if not self.replay:
            return room
        room = min(room, self.batch - self.pipeline.tally.events_in % self.batch)
        due = self.scheduler.due_in() if self.scheduler is not None else None
        return room if due is None else max(1, min(room, due))

    @property
    def events_per_s(self) -> float:
        """Messages applied per second of wall time, lately."""
        if len(self._rate) < 2:
            return 0.0
        (start_s, before), (end_s, after) = self._rate[0], self._rate[-1]
        return (after - before) / max(end_s - start_s, 1e-9)

    def _now_s(self) -> float:
        return self.clock.now_us() / 1e6
