"""The command line: `goat` and its verbs. Reads flags and settings, then hands over."""

from typing import Annotated

import typer

from consumers import logs, tracing
from consumers.cli_ledger import ledger
from consumers.cli_members import Members, member
from consumers.cli_serve import serve
from consumers.cli_tools import tools
from consumers.flags import (
    Anew,
    BaseShare,
    Batch,
    Board,
    Collection,
    Columns,
    Embedder,
    Events,
    Every,
    Format,
    GrpcPort,
    History,
    Html,
    Interval,
    Json,
    Kafka,
    Limit,
    Methods,
    MetricsPort,
    Model,
    Port,
    Qdrant,
    Quiet,
    Seed,
    Seeds,
    Served,
    Slices,
    State,
    Static,
    Strict,
    Topic,
    end,
    settings_of,
)
from consumers.inputs import Inputs, parse_columns
from consumers.lifecycle import guarded

app = typer.Typer(
    name="goat",
    help="Streaming incremental recommender for ad systems: events in from Kafka or files, "
    "candidates out through Qdrant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 refused with a reason, 2 wrong command line, "
    "3 a server cannot be had, 70 a fault of ours, 130 stopped by a second interrupt.",
)


@app.callback()
def begin(
    context: typer.Context,
    log: Annotated[
        logs.Form, typer.Option(envvar="GOAT_LOG", help="What is said on standard error, and how.")
    ] = "text",
    log_level: Annotated[
        logs.Level | None,
        typer.Option(envvar="GOAT_LOG_LEVEL", help="From which level on (warning; info as JSON)."),
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(envvar="GOAT_OTLP", help="Send traces to this URL (OTLP/HTTP).")
    ] = None,
) -> None:
    """Set up what all verbs have in common."""
    logs.configure(log, log_level)

    def program() -> int:
        if otlp is not None:
            context.call_on_close(tracing.start(otlp, context.invoked_subcommand or ""))
        return 0

    if code := guarded(program):
        end(code)


app.add_typer(tools)
app.add_typer(ledger)
app.command()(serve)
app.command()(member)


@app.command()
def run(
    events: Events = None,
    format: Format = "jsonl",
    columns: Columns = None,
    history: History = None,
    limit: Limit = None,
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    finetune_every: Every = None,
    retrain_every: Anew = None,
    finetune_interval_s: Interval = None,
    embedder: Embedder = None,
    batch: Batch = None,
    seed: Seed = None,
    model: Model = None,
    board: Board = None,
    port: Port = None,
    metrics_port: MetricsPort = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Run everything in one process: events to graph to vectors to candidates.

    Without arguments a simulated ad platform and the embedded vector engine; with --events real
    files; with --kafka and --qdrant servers. Run it again and it goes on where it stopped.
    """

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, collection=collection,
            qdrant_grpc_port=qdrant_grpc_port, finetune_every=finetune_every,
            finetune_interval_s=finetune_interval_s, retrain_every=retrain_every,
            embedder=embedder, seed=seed, batch=batch, model=model, board=board, port=port,
            metrics_port=metrics_port,
        )  # fmt: skip
        inputs = Inputs(events, format, parse_columns(columns), history, limit)
        return programs.run(settings, inputs, json_file=json_file, quiet=quiet)

    end(guarded(program))


@app.command()
def evaluate(
    events: Events = None,
    format: Format = "jsonl",
    columns: Columns = None,
    history: History = None,
    limit: Limit = None,
    state: State = None,
    finetune_every: Every = None,
    retrain_every: Anew = None,
    embedder: Embedder = None,
    batch: Batch = None,
    seed: Seed = None,
    model: Model = None,
    methods: Methods = None,
    served: Served = False,
    static: Static = False,
    base_share: BaseShare = None,
    slices: Slices = 10,
    seeds: Seeds = 1,
    strict: Strict = "instant",
    html: Html = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Score test-then-train over files or the simulator, beside other methods.

    A round of learning comes every --finetune-every events, or --base-share first and then
    --slices rounds. No state is kept; with --served it is, and nothing is published. With --static
    a file of train, valid and test: chosen on valid, asked test once.
    """

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, finetune_every=finetune_every, retrain_every=retrain_every,
            embedder=embedder, batch=batch, seed=seed, model=model,
        )  # fmt: skip
        inputs = Inputs(events, format, parse_columns(columns), history, limit)
        if served:
            return programs.evaluate(settings, inputs, json_file=json_file, quiet=quiet)
        from consumers import comparison, static_comparison

        names = [name.strip() for name in methods.split(",")] if methods is not None else None
        if static:
            return static_comparison.compare_static(
                settings, inputs, names, seeds, json_file=json_file, html_file=html, quiet=quiet
            )
        protocol = comparison.Protocol(names, base_share, slices, finetune_every, seeds, strict)
        return comparison.compare(
            settings, inputs, protocol, json_file=json_file, html_file=html, quiet=quiet
        )

    end(guarded(program))


@app.command()
def ingest(
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    embedder: Embedder = None,
    batch: Batch = None,
    limit: Limit = None,
    members: Members = None,
    metrics_port: MetricsPort = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """The fast path alone: Kafka to graph to refreshed vectors, model versions as they appear."""

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, collection=collection,
            qdrant_grpc_port=qdrant_grpc_port, embedder=embedder, batch=batch, members=members,
            metrics_port=metrics_port,
        )  # fmt: skip
        return programs.ingest(settings, limit=limit, json_file=json_file, quiet=quiet)

    end(guarded(program))


@app.command()
def finetune(
    state: State = None,
    finetune_interval_s: Interval = None,
    retrain_every: Anew = None,
    seed: Seed = None,
    model: Model = None,
    metrics_port: MetricsPort = None,
    once: Annotated[bool, typer.Option("--once", help="Fine-tune once and leave.")] = False,
    anew: Annotated[
        str | None, typer.Option(help="Have all learned anew, for this reason.")
    ] = None,
) -> None:
    """The slow path alone: newest graph snapshot to a new model version, once or every so often.

    With --anew and not --once only a request is left, for the next fine-tune of a running process.
    """

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, finetune_interval_s=finetune_interval_s, retrain_every=retrain_every,
            seed=seed, model=model, metrics_port=metrics_port,
        )  # fmt: skip
        return programs.finetune(settings, once=once, anew=anew)

    end(guarded(program))


@app.command()
def enrich(
    state: State = None,
    embedder: Embedder = None,
    chat_url: Annotated[str | None, typer.Option(help="OpenAI-compatible: https://…/v1.")] = None,
    chat_model: Annotated[str | None, typer.Option(help="Name, smollm2 or a GGUF file.")] = None,
    enrich_per_hour: Annotated[int | None, typer.Option(help="Users an hour.", min=0)] = None,
    users: Annotated[int | None, typer.Option(help="Describe at most so many.", min=1)] = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Have a language model describe users' preferences from their past, within a budget."""

    def program() -> int:
        from consumers import enriching

        settings = settings_of(
            state=state, embedder=embedder, chat_url=chat_url, chat_model=chat_model,
            enrich_per_hour=enrich_per_hour,
        )  # fmt: skip
        return enriching.enrich(settings, users=users, json_file=json_file, quiet=quiet)

    end(guarded(program))


@app.command()
def watch(
    state: State = None,
    kafka: Kafka = None,
    drift_policy: Annotated[
        str | None, typer.Option(help="After an alert: note, finetune, retrain, freeze.")
    ] = None,
    drift_detector: Annotated[
        str | None, typer.Option(help="adwin, page-hinkley or kswin.")
    ] = None,
    drift_window: Annotated[int | None, typer.Option(help="Events of a window.", min=2)] = None,
    seed: Seed = None,
    metrics_port: MetricsPort = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and leave.")] = False,
    mute: Annotated[str | None, typer.Option(help="Say nothing of this watch until…")] = None,
    until: Annotated[str | None, typer.Option(help="…this time (RFC 3339).")] = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Watch the aligned distributions for drift: read snapshots and versions, send alerts."""

    def program() -> int:
        from consumers import watching

        settings = settings_of(
            state=state, kafka=kafka, drift_policy=drift_policy, drift_detector=drift_detector,
            drift_window=drift_window, seed=seed, metrics_port=metrics_port,
        )  # fmt: skip
        if mute is not None or until is not None:
            watching.mute(settings, mute or "", until or "")
            return 0
        return watching.watch(settings, once=once, json_file=json_file, quiet=quiet)

    end(guarded(program))


@app.command()
def publish(
    state: State = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
) -> None:
    """Publish the newest model version over the newest graph snapshot into fresh collections."""

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, qdrant=qdrant, qdrant_grpc_port=qdrant_grpc_port, collection=collection
        )
        return programs.publish(settings)

    end(guarded(program))


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(help="Version to go back to.")],
    state: State = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
) -> None:
    """Point readers at an earlier version that is still kept."""

    def program() -> int:
        from consumers import programs

        settings = settings_of(
            state=state, qdrant=qdrant, qdrant_grpc_port=qdrant_grpc_port, collection=collection
        )
        return programs.rollback(settings, version)

    end(guarded(program))


def main() -> None:
    """Entry point of the `goat` command."""
    app()
