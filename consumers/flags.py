"""The flags that several verbs of `goat` have, and the settings that they make."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from consumers.errors import SettingsError
from consumers.settings import Settings

State = Annotated[Path | None, typer.Option(help="Folder of snapshots, versions and manifest.")]
Kafka = Annotated[str | None, typer.Option(help="Bootstrap servers, host:port[,host:port].")]
Topic = Annotated[str | None, typer.Option(help="Topic of events.")]
Qdrant = Annotated[str | None, typer.Option(help="Qdrant URL; without it the embedded engine.")]
GrpcPort = Annotated[int | None, typer.Option(help="Qdrant's gRPC port.")]
Events = Annotated[Path | None, typer.Option(help="File or folder to read events from.")]
Format = Annotated[str, typer.Option(help="Format of --events; `goat replay --help` lists them.")]
Columns = Annotated[
    str | None,
    typer.Option(help="For --format table: user=…,item=…,time=…[,event=…,value=…,text=…]."),
]
History = Annotated[Path | None, typer.Option(help="File to learn from before scoring begins.")]
Limit = Annotated[int | None, typer.Option(help="Stop after this many messages.", min=1)]
Every = Annotated[int | None, typer.Option(help="Fine-tune each N messages.", min=1)]
Anew = Annotated[int | None, typer.Option(help="Learn all anew each N fine-tunes.", min=1)]
Interval = Annotated[float | None, typer.Option(help="Fine-tune each N seconds, when live.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures here as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.", min=0)]
Collection = Annotated[str | None, typer.Option(help="Prefix of the collections' names.")]
Embedder = Annotated[
    str | None, typer.Option(help="Text vectors: given, minilm, sentence, endpoint.")
]
Model = Annotated[str | None, typer.Option(help='Hyper-parameters as JSON: {"dim": 32}.')]
Batch = Annotated[int | None, typer.Option(help="Messages applied at a time.", min=1)]

MetricsPort = Annotated[int | None, typer.Option(help="Show figures for Prometheus here.")]
Board = Annotated[bool | None, typer.Option("--board", help="Serve the board on loopback.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on; loopback by default.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.")]
Patience = Annotated[
    float | None, typer.Option(help="From a request for candidates to its answer, seconds.")
]
Keys = Annotated[
    Path | None, typer.Option(help="File of API keys: `name role[,role] secret` a line.")
]
Unguarded = Annotated[
    bool | None, typer.Option("--unguarded", help="Listen beyond this machine without API keys.")
]
Certificate = Annotated[Path | None, typer.Option(help="PEM file: serve over TLS.")]
CertificateKey = Annotated[Path | None, typer.Option(help="PEM file: the certificate's key.")]

Methods = Annotated[
    str | None,
    typer.Option(
        help="goat,popularity,itemknn,ease,ials,bpr,lightgcn, or some of them; -static behind a"
        " name learns once. All by default."
    ),
]
Served = Annotated[
    bool, typer.Option("--served", help="Ours alone, through the whole pipeline, as it is served.")
]
Static = Annotated[bool, typer.Option("--static", help="A split of train, valid and test.")]
BaseShare = Annotated[
    float | None, typer.Option(help="Part of the events learned first.", min=0.0, max=0.99)
]
Strict = Annotated[
    Literal["instant", "day"],
    typer.Option(help="What of the user's events the strict figures hold back."),
]
Slices = Annotated[int, typer.Option(help="With --base-share: rounds after it.", min=1)]
Seeds = Annotated[int, typer.Option(help="Runs of each method that a seed matters to.", min=1)]
Html = Annotated[Path | None, typer.Option(help="Write a report here.")]


def settings_of(**flags: object) -> Settings:
    """Flags over the environment over defaults."""
    try:
        return Settings.model_validate({k: v for k, v in flags.items() if v is not None})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(said) from None


def end(code: int) -> None:
    """Leave with this exit code."""
    raise typer.Exit(code)
