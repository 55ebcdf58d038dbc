"""`goat serve` on the command line; its many flags have a file of their own."""

import typer

from consumers.flags import (
    Certificate,
    CertificateKey,
    Collection,
    Embedder,
    GrpcPort,
    Host,
    Kafka,
    Keys,
    Patience,
    Port,
    Qdrant,
    State,
    Topic,
    Unguarded,
    settings_of,
)
from consumers.lifecycle import guarded


def serve(
    state: State = None,
    kafka: Kafka = None,
    topic: Topic = None,
    qdrant: Qdrant = None,
    qdrant_grpc_port: GrpcPort = None,
    collection: Collection = None,
    host: Host = None,
    port: Port = None,
    deadline_s: Patience = None,
    api_keys_file: Keys = None,
    unguarded: Unguarded = None,
    tls_certificate: Certificate = None,
    tls_key: CertificateKey = None,
    embedder: Embedder = None,
) -> None:
    """Serve candidates over HTTP from a state that `goat run` or `goat ingest` keeps."""

    def program() -> int:
        settings = settings_of(
            state=state, kafka=kafka, topic=topic, qdrant=qdrant, collection=collection,
            qdrant_grpc_port=qdrant_grpc_port, host=host, port=port, deadline_s=deadline_s,
            api_keys_file=api_keys_file, unguarded=unguarded, tls_certificate=tls_certificate,
            tls_key=tls_key, embedder=embedder,
        )  # fmt: skip
        from consumers import serving  # its server is an extra

        return serving.serve(settings)

    raise typer.Exit(guarded(program))
