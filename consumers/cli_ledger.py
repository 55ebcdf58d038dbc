"""The verbs of `goat` that look back: the manifest, making a version again, leaving a burst out."""

from pathlib import Path
from typing import Annotated

import typer

from consumers.flags import (
    Collection,
    Columns,
    Events,
    Format,
    GrpcPort,
    History,
    Kafka,
    Model,
    Qdrant,
    Seed,
    State,
    Topic,
    end,
    settings_of,
)
from consumers.inputs import Inputs, parse_columns
from consumers.lifecycle import guarded

ledger = typer.Typer()
manifest = typer.Typer(
    help="What was learned and published, and from what; see docs/manifest.md.",
    no_args_is_help=True,
)
ledger.add_typer(manifest, name="manifest")

Out = Annotated[
    Path | None, typer.Option("--json", help="Write it here as JSON; '-' is the standard output.")
]


@manifest.command("list")
def list_versions(state: State = None, json_file: Out = None) -> None:
    """Every version, a line each: when, from which offsets, by which gates, what became of it."""

    def program() -> int:
        from consumers import ledger_verbs

        return ledger_verbs.listing(settings_of(state=state), json_file=json_file)

    end(guarded(program))


@manifest.command()
def show(
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    state: State = None,
    json_file: Out = None,
) -> None:
    """All of one version, and whether what it names is still what it was."""

    def program() -> int:
        from consumers import ledger_verbs

        return ledger_verbs.show(settings_of(state=state), version, json_file=json_file)

    end(guarded(program))


@manifest.command()
def why(
    item: Annotated[str, typer.Argument(help="Id of the item.")],
    state: State = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    json_file: Out = None,
) -> None:
    """Where an item's stored vector comes from: version, write, offsets, events, popularity."""

    def program() -> int:
        from consumers import ledger_verbs

        settings = settings_of(
            state=state, qdrant=qdrant, qdrant_grpc_port=qdrant_grpc_port, collection=collection
        )
        return ledger_verbs.why(settings, item, json_file=json_file)

    end(guarded(program))


@ledger.command()
def rebuild(
    at: Annotated[int, typer.Option("--at", help="Number of the version.")],
    events: Events = None,
    format: Format = "jsonl",
    columns: Columns = None,
    history: History = None,
    kafka: Kafka = None,
    topic: Topic = None,
    state: State = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    seed: Seed = None,
    from_events: Annotated[
        bool, typer.Option("--from-events", help="Use no version or snapshot that is kept.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="Write the version into this new folder.")] = None,
    json_file: Out = None,
) -> None:
    """Make a version again from its origin and compare it, bit for bit, with what is stored.

    From the version before it and its snapshot where both are kept, else from the events: those of
    --events, of Kafka, or of the simulator. Exit code 1 if anything differs.
    """

    def program() -> int:
        from consumers import rebuild_verbs

        settings = settings_of(
            kafka=kafka, topic=topic, state=state, qdrant=qdrant,
            qdrant_grpc_port=qdrant_grpc_port, collection=collection, seed=seed,
        )  # fmt: skip
        inputs = Inputs(events, format, parse_columns(columns), history)
        return rebuild_verbs.rebuild(
            settings, at, inputs, from_events=from_events, to=to, json_file=json_file
        )

    end(guarded(program))


@ledger.command()
def excise(
    user_pattern: Annotated[str, typer.Option(help="Glob of the users' ids: *, ?, […].")],
    since: Annotated[str, typer.Option("--from", help="First event time (RFC 3339).")],
    until: Annotated[str, typer.Option("--to", help="End of event time, itself not included.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is named, change nothing.")
    ] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Take edges out of the graph, replay nothing.")
    ] = False,
    recall: Annotated[
        bool, typer.Option("--recall", help="Measure both on the last tenth; learns twice more.")
    ] = False,
    events: Events = None,
    format: Format = "jsonl",
    columns: Columns = None,
    history: History = None,
    kafka: Kafka = None,
    topic: Topic = None,
    state: State = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    seed: Seed = None,
    model: Model = None,
    json_file: Out = None,
) -> None:
    """Leave a burst of bots out: replay without it, learn anew, publish, and say what changed.

    What they did in that time is left out from here on, whatever is replayed. Stop what works on
    the state first.
    """

    def program() -> int:
        from consumers import excising
        from consumers.times import span_of

        settings = settings_of(
            kafka=kafka, topic=topic, state=state, qdrant=qdrant, seed=seed, model=model,
            qdrant_grpc_port=qdrant_grpc_port, collection=collection,
        )  # fmt: skip
        inputs = Inputs(events, format, parse_columns(columns), history)
        return excising.excise(
            settings, span_of(user_pattern, since, until), inputs, dry_run=dry_run,
            in_place=in_place, recall=recall, json_file=json_file,
        )  # fmt: skip

    end(guarded(program))
