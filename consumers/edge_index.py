"""The embedded index: Qdrant's own engine in this process, one folder a collection.

``<root>/<collection>/`` is the engine's; ``<root>/aliases.json`` is ours, replaced as a whole;
``<root>/lock`` is held while the index is open. Names that begin with a dot are half made or half
deleted collections and are removed when the index is opened.

Durability: the engine appends each write to a log before it answers, so a killed process loses
nothing. A power cut may lose writes since the last `flush` or `settle` (the log is not fsynced at
each write). Pushing the same users and items again heals that, because whoever restarts does so
with a higher sequence: `Publisher.flush` before a snapshot makes what the snapshot has seen safe.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import cast

import numpy as np
import qdrant_edge as qe
from numpy.typing import NDArray

from consumers.edge_filter import LIVING, fence, of_campaign, to_filter, tombstones
from consumers.edge_shard import DROPPED, NEW, make_shard, mend, records, rewrite_shard
from consumers.errors import IndexLocked, PublishError, UnknownPoint
from consumers.gone import graves
from consumers.index import (
    ANY,
    CHUNK,
    SEARCH_WIDTH,
    VECTOR,
    Backlog,
    Candidate,
    Conditions,
    Names,
    PointBatch,
    Space,
    Stored,
    point_id,
)
from consumers.index_rules import (
    check_batch,
    check_fields,
    check_ids,
    check_name,
    check_query,
    check_sequence,
)

ALIASES = "aliases.json"


class EdgeIndex:
    """A `VectorIndex` in a folder, for one process at a time.

    Parameters
    ----------
    root : Path
        Made when it is not there.

    Raises
    ------
    IndexLocked
        If another process (or another `EdgeIndex` of this one) has it open.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(root)
        # Guards the table of shards, not the shards, which the engine guards itself.
        self._table = RLock()
        self._shards: dict[str, qe.EdgeShard] = {}
        self._dims: dict[str, int] = {}
        self._aliases: Mapping[str, str] = {}
        if links := sorted(p for p in root.iterdir() if p.is_symlink()):
            self.close()
            raise PublishError(f"{links[0]}: a symbolic link is no collection: remove it")
        mend(root)
        for folder in sorted(p for p in root.iterdir() if p.is_dir()):
            self._load(folder.name)
        try:
            self._aliases = _read_aliases(root / ALIASES, self._shards)
        except PublishError:
            self.close()
            raise

    # -- collections

    def create(self, collection: str, space: Space, dim: int) -> None:
        where = self._root / check_name(collection)
        with self._table:
            if collection in self._shards or collection in self._aliases:
                raise PublishError(f"{where}: there is a collection or alias of that name already")
            half = self._root / f"{NEW}{collection}"
            make_shard(half, space, dim).close()
            half.rename(where)
            _sync(self._root)
            self._load(collection)

    def collections(self) -> tuple[str, ...]:
        with self._table:
            return tuple(sorted(self._shards))

    def drop(self, collection: str) -> None:
        with self._table:
            pointing = sorted(a for a, c in self._aliases.items() if c == collection)
            if pointing:
                raise PublishError(f"{collection} is what the alias {pointing} points at: kept")
            shard = self._shards.pop(collection, None)
            if shard is None:
                return
            del self._dims[collection]
            doomed = self._root / f"{DROPPED}{collection}"
            (self._root / collection).rename(doomed)
            shard.close()
            shutil.rmtree(doomed)

    # -- points

    def upsert(
        self, collection: str, space: Space, batch: PointBatch, *, epoch: int, sequence: int
    ) -> None:
        shard = self._shard(collection)
        check_batch(batch, self._dims[collection], collection)
        own = {"epoch": epoch, "seq": sequence}
        vectors = cast(list[list[float]], batch.vectors.tolist())
        points = (
            qe.Point(point_id(space, i), {VECTOR: v}, {**p, "id": i, **own})
            for i, v, p in zip(batch.ids, vectors, batch.payloads, strict=True)
        )
        _write(shard, points, sequence)

    def bury(
        self,
        collection: str,
        space: Space,
        ids: Sequence[str],
        *,
        epoch: int,
        sequence: int,
        points: Sequence[str] = (),
    ) -> None:
        shard = self._shard(collection)
        check_ids(ids)
        told = graves(space, ids, points, epoch=epoch, sequence=sequence)
        made = (qe.Point(point, {}, payload) for point, payload in told)
        _write(shard, made, sequence)

    def set_payload(
        self, collection: str, campaigns: Mapping[str, Mapping[str, object]], *, sequence: int
    ) -> None:
        shard = self._shard(collection)
        check_sequence(sequence)
        check_fields(campaigns)
        for name, fields in campaigns.items():
            change = qe.UpdateOperation.set_payload_by_filter(
                of_campaign(name, sequence), {**fields, "seq": sequence}
            )
            shard.update(change)

    def sweep(self, collection: str, before: int, points: Sequence[str] | None = None) -> None:
        sweep = qe.UpdateOperation.delete_points_by_filter(tombstones(before, points))
        self._shard(collection).update(sweep)

    def rewrite(self, collection: str, space: Space) -> None:
        with self._table:
            shard, dim = self._shard(collection), self._dims[collection]
            del self._shards[collection]
            rewrite_shard(shard, self._root, collection, space, dim)
            _sync(self._root)
            self._load(collection)

    def ids(self, collection: str) -> Iterator[str]:
        for record in records(self._shard(collection), vectors=False):
            if name := (record.payload or {}).get("id"):
                yield str(name)

    def count(self, collection: str) -> int:
        return self._shard(collection).count(qe.CountRequest(exact=True, filter=LIVING))

    def last_sequence(self, collection: str) -> int:
        order = qe.OrderBy("seq", direction=qe.Direction.Desc)
        request = qe.QueryRequest(limit=1, query=order, with_payload=["seq"])
        found = self._shard(collection).query(request)
        return cast(int, (found[0].payload or {})["seq"]) if found else 0

    def fetch(self, collection: str, space: Space, ids: Sequence[str]) -> list[Stored | None]:
        shard = self._shard(collection)
        wanted = [point_id(space, i) for i in ids]
        records = shard.retrieve(list(wanted), with_payload=True, with_vector=True)
        found = {str(r.id): _stored(r) for r in records}
        return [found.get(w) for w in wanted]

    # -- aliases

    def aliases(self) -> Mapping[str, str]:
        return self._aliases

    def point(self, targets: Mapping[str, str | None]) -> None:
        with self._table:
            missing = sorted(c for c in targets.values() if c and c not in self._shards)
            taken = sorted(a for a in targets if check_name(a) in self._shards)
            if missing or taken:
                raise PublishError(
                    f"{self._root}: no collection {missing} to point at, or collections {taken} "
                    "of the alias's own name; aliases stay as they were"
                )
            after = {a: c for a, c in {**self._aliases, **targets}.items() if c}
            _replace(self._root / ALIASES, json.dumps(after, sort_keys=True, indent=1))
            # One assignment: whoever resolves two aliases from one mapping sees one version.
            self._aliases = _read_aliases(self._root / ALIASES, self._shards)
            if dict(self._aliases) != after:
                raise PublishError(
                    f"{self._root / ALIASES} reads back {self._aliases}, not {after}"
                )

    # -- searches

    def candidates(
        self, user_id: str, k: int, conditions: Conditions = ANY, *, names: Names
    ) -> list[Candidate]:
        aliases = self._aliases
        users, items = aliases.get(names.users, names.users), aliases.get(names.items, names.items)
        [stored] = self.fetch(users, Space.USERS, [user_id])
        if stored is None or stored.vector is None:
            what = "no such user" if stored is None else "the user was removed"
            raise UnknownPoint(f"{users}: {what}: {user_id[:80]!r}")
        return self.search(items, stored.vector, k, conditions)

    def search(
        self, collection: str, vector: NDArray[np.float32], k: int, conditions: Conditions = ANY
    ) -> list[Candidate]:
        collection = self._aliases.get(collection, collection)
        shard = self._shard(collection)
        check_query(vector, self._dims[collection], k, collection)
        query = qe.Query.Nearest(vector.tolist(), using=VECTOR)
        request = qe.QueryRequest(
            limit=k,
            query=query,
            filter=to_filter(conditions),
            params=qe.SearchParams(hnsw_ef=SEARCH_WIDTH),
            with_payload=True,
        )
        found = ((p.score, cast(dict[str, object], p.payload or {})) for p in shard.query(request))
        return [Candidate(cast(str, payload["id"]), score, payload) for score, payload in found]

    # -- durability

    def settle(self, collection: str) -> None:
        shard = self._shard(collection)
        shard.optimize()
        shard.flush()

    def backlog(self, collection: str) -> Backlog:
        info = self._shard(self._aliases.get(collection, collection)).info()
        return Backlog(max(info.points_count - info.indexed_vectors_count, 0), at_work=False)

    def flush(self) -> None:
        with self._table:
            shards = list(self._shards.values())
        for shard in shards:
            shard.flush()

    def close(self) -> None:
        with self._table:
            while self._shards:
                _, shard = self._shards.popitem()
                shard.flush()
                shard.close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _load(self, collection: str) -> None:
        folder = self._root / collection
        config = json.loads((folder / "edge_config.json").read_text())
        self._dims[collection] = int(config["vectors"][VECTOR]["size"])
        self._shards[collection] = qe.EdgeShard.load(str(folder))

    def _shard(self, collection: str) -> qe.EdgeShard:
        with self._table:
            shard = self._shards.get(collection)
        if shard is None:
            raise PublishError(f"{self._root}: there is no collection {collection!r}")
        return shard


def _write(shard: qe.EdgeShard, points: Iterable[qe.Point], sequence: int) -> None:
    check_sequence(sequence)
    chunk: list[qe.Point] = []
    older = fence(sequence)
    for point in points:
        chunk.append(point)
        if len(chunk) == CHUNK:
            shard.update(qe.UpdateOperation.upsert_points(chunk, condition=older))
            chunk = []
    if chunk:
        shard.update(qe.UpdateOperation.upsert_points(chunk, condition=older))


def _stored(record: qe.Record) -> Stored:
    vectors = cast(dict[str, list[float]], record.vector or {})
    vector = np.array(vectors[VECTOR], np.float32) if VECTOR in vectors else None
    return Stored(vector, cast(dict[str, object], record.payload or {}))


def _lock(root: Path) -> int:
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        os.close(lock)
        raise IndexLocked(
            f"{root} is open in another goat process: stop that one, name another --state, "
            "or use a Qdrant server (--qdrant), which many processes can share"
        ) from held
    return lock


def _read_aliases(path: Path, shards: Mapping[str, object]) -> Mapping[str, str]:
    if not path.exists():
        return MappingProxyType({})
    aliases = cast(dict[str, str], json.loads(path.read_text()))
    if astray := sorted(a for a, c in aliases.items() if c not in shards):
        raise PublishError(
            f"{path}: {astray} point at collections that are not there: delete {path.parent}, "
            "and the vectors are filled again from the newest snapshot"
        )
    return MappingProxyType(aliases)


def _replace(path: Path, text: str) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole."""
    half = path.with_suffix(".tmp")
    with half.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
