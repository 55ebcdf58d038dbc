"""The verbs of `goat` that feed it, check it, and set up what it needs; see `consumers.cli`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers import doctor, feed
from consumers.errors import SettingsError
from consumers.flags import (
    Collection,
    Columns,
    Events,
    Format,
    GrpcPort,
    History,
    Kafka,
    Limit,
    Qdrant,
    Quiet,
    Seed,
    State,
    Topic,
    end,
    settings_of,
)
from consumers.inputs import Inputs, parse_columns
from consumers.lifecycle import guarded
from stream.events import json_schema

tools = typer.Typer()
local = typer.Typer(help="A real Kafka and a real Qdrant on this machine, for a person to try.")
tools.add_typer(local, name="local")


@tools.command(epilog=feed.formats_help())
def replay(
    events: Events = None,
    format: Format = "jsonl",
    columns: Columns = None,
    history: History = None,
    limit: Limit = None,
    kafka: Kafka = None,
    topic: Topic = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second; without it: all.")] = None,
    at: Annotated[
        int | None, typer.Option(help="Send nothing: make this version again, as `rebuild` does.")
    ] = None,
    state: State = None,
) -> None:
    """Send the events of files to a Kafka topic at a chosen speed; or make a version again.

    With --at the events up to a version's offsets are replayed, and what is learned from them is
    compared with what is stored, bit for bit.
    """

    def program() -> int:
        settings = settings_of(kafka=kafka, topic=topic, state=state)
        inputs = Inputs(events, format, parse_columns(columns), history, limit)
        if at is not None:
            from consumers import rebuild_verbs

            return rebuild_verbs.rebuild(settings, at, inputs)
        if events is None:
            raise SettingsError("name the file or folder to send with --events")
        return feed.send(settings, inputs, to=None, rate=rate)

    end(guarded(program))


@tools.command()
def simulate(
    limit: Annotated[int, typer.Option(help="How many messages.", min=1)] = 60_000,
    seed: Seed = None,
    to: Annotated[Path | None, typer.Option(help="Write here (JSONL); '-' is stdout.")] = None,
    kafka: Kafka = None,
    topic: Topic = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second; without it: all.")] = None,
) -> None:
    """Write the events of a simulated ad platform to a file, the terminal or a Kafka topic."""

    def program() -> int:
        settings = settings_of(kafka=kafka, topic=topic, seed=seed)
        inputs = Inputs(None, "simulator", {}, None, limit)
        return feed.send(settings, inputs, to=to, rate=rate)

    end(guarded(program))


@tools.command()
def schema() -> None:
    """Print the JSON Schema of the events."""

    def program() -> int:
        _print(json_schema())
        return 0

    end(guarded(program))


@tools.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user's id, as events have it.")],
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    receipt: Annotated[Path | None, typer.Option(help="Write the receipt here.")] = None,
    wait_s: Annotated[float, typer.Option(help="Wait so long for a running program.")] = 120.0,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Have all learned anew without the user.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Erase a user from every place of a state, and write a receipt; see docs/erasure.md.

    Where a topic is given the event goes through it, so that no replay brings the user back. Exit
    code 1 when the user is still found anywhere.
    """

    def program() -> int:
        from consumers import erasing

        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, collection=collection,
            qdrant_grpc_port=qdrant_grpc_port,
        )  # fmt: skip
        return erasing.erase(
            settings, user, file=receipt, wait_s=wait_s, retrain=retrain, quiet=quiet
        )

    end(guarded(program))


@tools.command()
def check(
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
) -> None:
    """Read the settings, reach the servers, open the state; say what is wrong."""

    def program() -> int:
        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, qdrant_grpc_port=qdrant_grpc_port
        )
        findings = doctor.check(settings)
        _print(findings)
        return 0 if all(f["ok"] for f in findings.values()) else 1

    end(guarded(program))


@local.command("up")
def local_up() -> None:
    """Fetch (once) and start Kafka and Qdrant on free loopback ports; they stay until `down`."""
    end(guarded(lambda: _print(doctor.local_up())))


@local.command("down")
def local_down() -> None:
    """Stop what `up` started."""
    end(guarded(lambda: _print(doctor.local_down())))


@local.command("status")
def local_status() -> None:
    """Say what runs and where."""
    end(guarded(lambda: _print(doctor.local_status())))


def _print(value: Any) -> int:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    return 0
