"""`goat member` on the command line."""

from typing import Annotated

import typer

from consumers.flags import (
    Batch,
    Collection,
    GrpcPort,
    Json,
    Kafka,
    MetricsPort,
    Qdrant,
    State,
    Topic,
    settings_of,
)
from consumers.lifecycle import guarded

Members = Annotated[
    bool | None, typer.Option("--members", help="Users' vectors are written by `goat member`.")
]


def member(
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    batch: Batch = None,
    metrics_port: MetricsPort = None,
    json_file: Json = None,
) -> None:
    """Write the vectors of some of the users: of the partitions that the group gives this process.

    Start as many as there is work for, on one shared --state, beside one `goat ingest --members`.
    """

    def program() -> int:
        from consumers import programs_members

        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, collection=collection,
            qdrant_grpc_port=qdrant_grpc_port, batch=batch, metrics_port=metrics_port,
        )  # fmt: skip
        return programs_members.member(settings, json_file=json_file)

    raise typer.Exit(guarded(program))
