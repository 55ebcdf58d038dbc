"""The slow path: the newest graph snapshot in, the next model version out.

`finetune_job` is what the scheduler's worker process runs. It takes and returns plain strings.
"""

import os
from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from consumers.features import features_of
from consumers.heads import on_record
from consumers.manifest import FILE, Manifest
from consumers.manifest_steps import Trained
from consumers.publications import Publications
from consumers.retraining import Requests, answered, due
from consumers.settings import Settings
from consumers.versions import Version, Versions
from model.config import ModelConfig
from model.data import Interactions
from model.state import ModelState
from stream.batch import Kind
from stream.clock import Clock, SystemClock
from stream.errors import StateError
from stream.snapshot import OpenedView, SnapshotStore
from stream.view import GraphConfig

if TYPE_CHECKING:
    from model.trainer import FineTuned

BESIDE_NICENESS = 10
REQUESTS = "retrain"
"""Folder, in the state, of requests to learn all anew."""


def arguments(settings: Settings, config: ModelConfig, *, beside: bool = False) -> dict[str, str]:
    """What `finetune_job` is called with, as plain strings that may cross into a process.

    Parameters
    ----------
    beside : bool
        Whether it works beside a live stream, which then goes first wherever they share a core.
    """
    return {
        "state": str(settings.state.resolve()),
        "config": config.model_dump_json(),
        "window_us": str(settings.window_us),
        "seed": str(settings.seed),
        "threads": str(settings.threads),
        "retrain_every": str(settings.retrain_every or 0),
        "niceness": str(BESIDE_NICENESS if beside else 0),
    }


def finetune_job(
    *,
    state: str,
    config: str,
    window_us: str,
    seed: str,
    threads: str,
    retrain_every: str = "0",
    niceness: str = "0",
) -> str:
    """Fine-tune once; gives the number of the version.

    Parameters
    ----------
    state : path of the state folder
    config : `ModelConfig` as JSON
    window_us : int as text; events before that are not in the graph
    seed, threads : int as text; 0 threads leaves torch's own choice
    retrain_every : int as text; every so many versions all is learned anew, 0 for never
    niceness : int as text; how much this process lets others go first, 0 to 19, for good

    Raises
    ------
    StateError
        If there is no snapshot to learn from.
    ModelError
        If nothing can be learned from it.
    """
    if int(niceness):
        os.setpriority(os.PRIO_PROCESS, 0, int(niceness))
    root = Path(state)
    snapshot = newest_graph(root / "graph", int(window_us))
    versions = Versions(root / "models")
    model = ModelConfig.model_validate_json(config)
    version = learn(
        snapshot,
        versions,
        model,
        seed=int(seed),
        threads=int(threads) or None,
        retrain_every=int(retrain_every) or None,
        requests=Requests(root / REQUESTS),
        harmful=harmful(root / FILE, SystemClock()),
    )
    record(versions, root / FILE, SystemClock())
    return str(version.number)


def harmful(path: Path, clock: Clock) -> set[int]:
    """Versions that were refused or taken back.

    Raises
    ------
    ManifestCorrupt
        The record has been altered.
    """
    state = Publications()
    with closing(Manifest(path, clock)) as manifest:
        state.advance(manifest.lines)
    return state.turned_away


def record(versions: Versions, path: Path, clock: Clock) -> None:
    """Write a line of the manifest for each version that has none; also for what a crash left out.

    Raises
    ------
    ManifestCorrupt
        It has been altered.
    """
    with closing(Manifest(path, clock)) as manifest, manifest.exclusive():
        known = on_record(manifest.lines)
        for number in versions.numbers():
            origin = versions.open(number).origin
            if origin.hash not in known:
                manifest.append(Trained(origin=origin))


def newest_graph(folder: Path, window_us: int) -> OpenedView:
    """The newest snapshot, without what has left the window.

    Raises
    ------
    StateError
        There is none.
    """
    found = SnapshotStore(folder, SystemClock()).open_view(GraphConfig(window_us=window_us))
    if found is None:
        raise StateError(f"{folder}: no snapshot; run `goat ingest` or `goat run` first")
    return found


def learn(
    snapshot: OpenedView,
    versions: Versions,
    config: ModelConfig,
    *,
    seed: int,
    threads: int | None,
    retrain_every: int | None = None,
    requests: Requests | None = None,
    harmful: Collection[int] = (),
) -> Version:
    """Go on from the newest harmless version that learned from this snapshot or an earlier one.

    A version that has learned from all edges there are is returned as it is: after a crash
    between learning and adopting, nothing is learned twice. Unless all is to be learned anew, by a
    request that no version has answered.
    """
    base = versions.newest(snapshot.info.number, numbering=snapshot.numbering)
    waiting = [] if requests is None else requests.waiting()
    done = answered([versions.open(number).meta for number in versions.numbers()])
    wanted = [one for one in waiting if one.name not in done]
    if base is not None and base.meta["edges"] == snapshot.view.next_sequence and not wanted:
        _forget(requests, done)
        return base
    if base is not None and base.number in harmful:
        base = versions.newest(snapshot.info.number, numbering=snapshot.numbering, without=harmful)
    since_anew = 0 if base is None else int(str(base.meta.get("since_anew", 0))) + 1
    anew, why = due(wanted, since_anew, retrain_every)
    rng_seed = seed + (0 if base is None else base.number)
    tuned, made_with = train(
        snapshot,
        None if base is None else base.load(),
        config,
        seed=rng_seed,
        threads=threads,
        anew=anew,
    )
    features = features_of(snapshot.catalog.items, snapshot.view.n_items)
    meta = {
        "edges": snapshot.view.next_sequence,
        "positions": {str(p): offset for p, offset in snapshot.info.positions.items()},
        "snapshot_hash": snapshot.info.sha256,
        "numbering": snapshot.numbering,
        "window_us": snapshot.view.config.window_us,
        "base": None if base is None else base.number,
        "since_anew": 0 if anew else since_anew,
        "anew": why,
        "requests": {one.name: one.reason for one in wanted},
        "seed": seed,
        "rng_seed": rng_seed,
        "config": config.model_dump(),
        "made_with": made_with,
        "features": {
            name: {"items": int(given.present.sum()), "dim": given.vectors.shape[1]}
            for name, given in features.items()
        },
        "embedder": snapshot.extra.get("embedder"),
        "report": asdict(tuned.report),
    }
    ids = tuple(snapshot.items.names)
    version = versions.write(tuned.state, ids, snapshot.info.number, meta)
    _forget(requests, done | {one.name for one in wanted})
    versions.prune(harmful)
    return version


def train(
    snapshot: OpenedView,
    previous: ModelState | None,
    config: ModelConfig,
    *,
    seed: int,
    threads: int | None,
    anew: bool,
) -> "tuple[FineTuned, dict[str, str]]":
    """Learn from a snapshot; what was learned, and in which circumstances.

    Nothing but these arguments and the circumstances decides what comes out, to the bit.
    """
    from model.circumstances import circumstances
    from model.trainer import finetune  # torch takes seconds, and only learning needs it

    tuned = finetune(
        interactions(snapshot, passed_over=config.negative_weight > 0),
        features=features_of(snapshot.catalog.items, snapshot.view.n_items),
        previous=previous,
        config=config,
        seed=seed,
        threads=threads,
        anew=anew,
    )
    return tuned, circumstances()


def _forget(requests: Requests | None, names: set[str]) -> None:
    """Remove the requests that a version names: it is on the disk."""
    if requests is not None:
        requests.remove(names)


def interactions(snapshot: OpenedView, *, passed_over: bool = False) -> Interactions:
    """The snapshot's positive edges, grouped by user, as the model takes them.

    Parameters
    ----------
    passed_over : bool
        With the impressions that nothing has answered within the time that an answer has.
    """
    view = snapshot.view
    csr = view.csr(impressions=passed_over)
    if passed_over:
        csr = csr.where((csr.kind != Kind.IMPRESSION) | (csr.time_us < view.decided_us))
    return Interactions(
        indptr=csr.indptr,
        item=csr.item,
        time_us=csr.time_us,
        weight=np.abs(csr.weight),
        sequence=csr.sequence,
        positive=csr.kind != Kind.IMPRESSION,
        items=view.n_items,
        late=csr.kind == Kind.CONVERSION,
    )
