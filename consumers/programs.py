"""The programs behind the command line: each takes settings and gives an exit code."""

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from consumers import finetuner, report, wiring
from consumers.boarding import boarded
from consumers.errors import PublishError, SettingsError
from consumers.figures import figures_of
from consumers.homes import refuse_members
from consumers.index import Names
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.joining import wait_for_members
from consumers.lifecycle import Stop
from consumers.logs import log
from consumers.metrics import FineTuneFigures, StreamFigures, exposed
from consumers.progress import Progress
from consumers.retraining import FROZEN, ROLLBACKS, WANTED, Requests, frozen
from consumers.scheduler import Scheduler
from consumers.settings import Settings
from consumers.status import StatusFile
from consumers.versions import Versions
from stream.clock import SystemClock


def run(
    settings: Settings, inputs: Inputs, *, json_file: Path | None = None, quiet: bool = False
) -> int:
    """Everything in one process; see `consumers.cli.run`."""
    return _whole(settings, inputs, json_file=json_file, quiet=quiet, publish=True)


def evaluate(
    settings: Settings, inputs: Inputs, *, json_file: Path | None = None, quiet: bool = False
) -> int:
    """The same without publishing."""
    if inputs.events is None and settings.kafka is not None:
        raise SettingsError("evaluate replays: give --events, or unset GOAT_KAFKA to simulate")
    return _whole(settings, inputs, json_file=json_file, quiet=quiet, publish=False)


def _whole(
    settings: Settings, inputs: Inputs, *, json_file: Path | None, quiet: bool, publish: bool
) -> int:
    replay = inputs.events is not None or settings.kafka is None
    every = settings.finetune_every or (wiring.REPLAY_FINETUNE_EVERY if replay else None)
    interval = None if replay else settings.finetune_interval_s or 120.0
    with wiring.opened(settings, inputs, publish=publish) as parts:
        scheduler = Scheduler(
            finetuner.finetune_job,
            finetuner.arguments(settings, parts.model, beside=not replay),
            interval_s=interval,
            every_events=every,
        )
        ingestor = Ingestor(
            parts.pipeline,
            parts.source,
            Versions(settings.models_dir),
            SystemClock(),
            Stop(),
            scheduler=scheduler,
            replay=replay,
            limit=inputs.limit,
            batch=settings.batch,
            snapshot_every_s=settings.snapshot_every_s,
            wanted=Requests(settings.state / WANTED),
            rollbacks=Requests(settings.state / ROLLBACKS),
            frozen=lambda: frozen(settings.state),
        )
        publisher = parts.pipeline.publisher
        with ExitStack() as stack:
            if settings.board and publisher is not None:
                stack.enter_context(boarded(settings, publisher.index))
            return _loop(ingestor, settings, json_file=json_file, quiet=quiet)


def ingest(
    settings: Settings, *, limit: int | None, json_file: Path | None, quiet: bool = False
) -> int:
    """The fast path alone."""
    wiring.cluster(settings)
    with wiring.opened(settings, Inputs(), publish=True) as parts:
        ingestor = Ingestor(
            parts.pipeline,
            parts.source,
            Versions(settings.models_dir),
            SystemClock(),
            Stop(),
            limit=limit,
            batch=settings.batch,
            snapshot_every_s=settings.snapshot_every_s,
            rollbacks=Requests(settings.state / ROLLBACKS),
            frozen=lambda: frozen(settings.state),
        )
        if settings.members:
            ingestor.tell_members = wait_for_members(settings, parts.pipeline)
        return _loop(ingestor, settings, json_file=json_file, quiet=quiet)


def _loop(ingestor: Ingestor, settings: Settings, *, json_file: Path | None, quiet: bool) -> int:
    began_s = time.monotonic()
    with (
        exposed(settings) as registry,
        ingestor.stop.listening(),
        Progress(lambda: figures_of(ingestor), time.monotonic, quiet=quiet) as shown,
    ):
        status = StatusFile(settings.state, ingestor.clock)
        registry.register(StreamFigures(lambda: status.last, ingestor.clock))

        def on_step() -> None:
            shown.show()
            status.note(ingestor)

        ingestor.on_step = on_step
        ingestor.run()
    values = report.figures(ingestor, time.monotonic() - began_s)
    if json_file is not None:
        report.write_json(json_file, values)
    if not quiet:
        report.show(Console(), report.some_users(ingestor), values, settings.state)
    return 0


def finetune(settings: Settings, *, once: bool, anew: str | None = None) -> int:
    """The slow path alone: once, or every so often in a worker process.

    With a reason for it, everything is learned anew: now, or by whoever fine-tunes next.
    """
    if anew is not None:
        newest = max(Versions(settings.models_dir).numbers(), default=0)
        Requests(settings.state / finetuner.REQUESTS).ask(f"person-{newest}", anew)
        if not once:
            return 0
    model = settings.hyper_parameters()
    arguments = finetuner.arguments(settings, model, beside=not once)
    if once:
        Console().print(f"version {finetuner.finetune_job(**arguments)}")
        return 0
    scheduler = Scheduler(
        finetuner.finetune_job, arguments, interval_s=settings.finetune_interval_s or 120.0
    )
    wanted = Requests(settings.state / WANTED)
    with exposed(settings) as registry, Stop().listening() as stop:
        figures = FineTuneFigures(registry)
        scheduler.start()
        while not stop.requested:
            scheduler.request_if(wanted)
            try:
                outcome = scheduler.wait(0.5)
            except TimeoutError:
                continue
            figures.note(outcome.error)
            if outcome.error is None:
                log.info("fine-tuned", version=outcome.value)
                Console().print(f"version {outcome.value}", soft_wrap=True, markup=False)
            else:
                log.error("fine-tune failed", error=outcome.error)
        scheduler.close()
    return 0


def publish(settings: Settings) -> int:
    """Fill fresh collections with the newest version over the newest snapshot, and flip."""
    refuse_members(settings.state, "goat publish")
    if why := frozen(settings.state):
        raise SettingsError(f"publishing is frozen: {why}. Remove {settings.state / FROZEN}")
    versions = Versions(settings.models_dir)
    missing = f"{settings.models_dir}: no model version; run `goat finetune` first"
    if versions.newest() is None:
        raise SettingsError(missing)
    clock = SystemClock()
    with ExitStack() as stack:
        publisher = stack.enter_context(closing(wiring.open_publisher(settings, clock)))
        letters = stack.enter_context(closing(wiring.open_dead_letters(settings, kafka=False)))
        pipeline = wiring.open_pipeline(settings, settings.hyper_parameters(), None, letters, clock)
        newest = versions.newest(numbering=pipeline.state.numbering)
        if newest is None:
            raise SettingsError(missing)
        for _ in replace(pipeline, publisher=publisher).adopt(newest):
            pass
        if publisher.live != newest.number:
            decided = publisher.published.decisions[newest.number]
            raise PublishError(
                f"version {newest.number} was refused: {decided.why}. Readers still see version "
                f"{publisher.live}; `goat manifest show {newest.number}` has the figures"
            )
    Console().print(f"published version {newest.number}")
    return 0


def rollback(settings: Settings, version: int) -> int:
    """Point readers at an earlier version that is kept."""
    with closing(wiring.open_publisher(settings, SystemClock())) as publisher:
        publisher.rollback(version)
    Console().print(f"{Names.of(settings.collection).items} is at version {version} again")
    return 0
