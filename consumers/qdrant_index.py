"""The vector index on a Qdrant server, over gRPC; many processes may use it at once."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models as q

from consumers.errors import PublishError, UnknownPoint
from consumers.gone import graves
from consumers.index import (
    ANY,
    BUILD_WIDTH,
    CHUNK,
    EXACT_BELOW_KB,
    INDEXED,
    LINKS,
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
    check_k,
    check_name,
    check_query,
    check_sequence,
)
from consumers.qdrant_connection import connect, translated
from consumers.qdrant_filter import LIVING, fence, of_campaign, to_filter, tombstones
from stream.deadline import Deadline

CHANGES = 100  # of payloads in one request: each may touch many points
SETTLE_TIMEOUT_S = 600.0
SETTLE_POLL_S = 0.1


class QdrantIndex:
    """A `VectorIndex` on a server.

    Parameters
    ----------
    url : str
        REST address, of which the host and the scheme are used: ``https`` means TLS.
    grpc_port : int
    api_key : str, optional
    ca, certificate, key : Path, optional
        PEM files: who signs the server's certificate, and our own for mutual TLS.
    timeout_s : float
        Of one call, seconds; rounded up to whole ones.
    replicas, shards : int
        Of the collections made.
    pause : callable
        How to wait between two looks at an index that is being built.

    Raises
    ------
    ServerUnavailable
        If it cannot be reached, refuses us, or is of a version the client does not know.
    """

    def __init__(
        self,
        url: str,
        *,
        grpc_port: int = 6334,
        api_key: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_s: float = 10.0,
        replicas: int = 1,
        shards: int = 1,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._where = f"Qdrant at {url}, gRPC port {grpc_port}"
        self._replicas, self._shards, self._pause = replicas, shards, pause
        self._dims: dict[str, int] = {}
        self._client = connect(
            url,
            grpc_port=grpc_port,
            api_key=api_key,
            ca=ca,
            certificate=certificate,
            key=key,
            timeout_s=timeout_s,
        )

    # -- collections

    def create(self, collection: str, space: Space, dim: int) -> None:
        if dim < 1:
            raise PublishError(f"a collection of {dim} dimensions")
        if check_name(collection) in self.aliases():
            raise PublishError(f"{self._where}: {collection} is an alias already")
        with translated(self._where):
            self._client.create_collection(
                collection,
                vectors_config={VECTOR: q.VectorParams(size=dim, distance=q.Distance.DOT)},
                shard_number=self._shards,
                replication_factor=self._replicas,
                hnsw_config=q.HnswConfigDiff(
                    m=LINKS if space is Space.ITEMS else 0, ef_construct=BUILD_WIDTH
                ),
                optimizers_config=q.OptimizersConfigDiff(indexing_threshold=EXACT_BELOW_KB),
            )
            fields = INDEXED[space]
            for number, (field, kind) in enumerate(fields.items(), start=1):
                # They are made in this order: who waits for the last one has waited for all.
                self._client.create_payload_index(
                    collection, field, q.PayloadSchemaType(kind), wait=number == len(fields)
                )

    def collections(self) -> tuple[str, ...]:
        with translated(self._where):
            return tuple(sorted(c.name for c in self._client.get_collections().collections))

    def drop(self, collection: str) -> None:
        # The server would delete the aliases along with it.
        if pointing := sorted(a for a, c in self.aliases().items() if c == collection):
            raise PublishError(f"{collection} is what the alias {pointing} points at: kept")
        self._dims.pop(collection, None)
        with translated(self._where):
            self._client.delete_collection(collection)

    # -- points

    def upsert(
        self, collection: str, space: Space, batch: PointBatch, *, epoch: int, sequence: int
    ) -> None:
        check_batch(batch, self._dim(collection), collection)
        own = {"epoch": epoch, "seq": sequence}
        vectors = cast(list[list[float]], batch.vectors.tolist())
        points = (
            q.PointStruct(id=point_id(space, i), vector={VECTOR: v}, payload={**p, "id": i, **own})
            for i, v, p in zip(batch.ids, vectors, batch.payloads, strict=True)
        )
        self._write(collection, points, sequence)

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
        check_ids(ids)
        self._dim(collection)
        told = graves(space, ids, points, epoch=epoch, sequence=sequence)
        made = (q.PointStruct(id=point, vector={}, payload=payload) for point, payload in told)
        self._write(collection, made, sequence)

    def set_payload(
        self, collection: str, campaigns: Mapping[str, Mapping[str, object]], *, sequence: int
    ) -> None:
        check_sequence(sequence)
        check_fields(campaigns)
        changes = (
            q.SetPayloadOperation(
                set_payload=q.SetPayload(
                    payload={**fields, "seq": sequence}, filter=of_campaign(name, sequence)
                )
            )
            for name, fields in campaigns.items()
        )
        while some := list(islice(changes, CHANGES)):
            with translated(self._where):
                self._client.batch_update_points(collection, some, wait=True)

    def sweep(self, collection: str, before: int, points: Sequence[str] | None = None) -> None:
        with translated(self._where):
            doomed = q.FilterSelector(filter=tombstones(before, points))
            self._client.delete(collection, points_selector=doomed)

    def rewrite(self, collection: str, space: Space) -> None:
        """Do nothing: the server's optimiser removes what was deleted."""

    def ids(self, collection: str) -> Iterator[str]:
        offset: q.ExtendedPointId | None = None
        while True:
            with translated(self._where):
                found, after = self._client.scroll(
                    collection, limit=CHUNK, offset=offset, with_payload=["id"], with_vectors=False
                )
            for record in found:
                if name := (record.payload or {}).get("id"):
                    yield str(name)
            if after is None:
                return
            offset = cast(q.ExtendedPointId, after)

    def count(self, collection: str) -> int:
        with translated(self._where):
            return self._client.count(collection, count_filter=LIVING, exact=True).count

    def last_sequence(self, collection: str) -> int:
        order = q.OrderBy(key="seq", direction=q.Direction.DESC)
        with translated(self._where):
            found, _ = self._client.scroll(
                collection, limit=1, order_by=order, with_payload=["seq"], with_vectors=False
            )
        return cast(int, (found[0].payload or {})["seq"]) if found else 0

    def fetch(self, collection: str, space: Space, ids: Sequence[str]) -> list[Stored | None]:
        wanted = [point_id(space, i) for i in ids]
        with translated(self._where):
            records = self._client.retrieve(collection, list(wanted), with_vectors=True)
        found = {str(record.id): _stored(record) for record in records}
        return [found.get(w) for w in wanted]

    # -- aliases

    def aliases(self) -> Mapping[str, str]:
        with translated(self._where):
            found = self._client.get_aliases().aliases
        return {alias.alias_name: alias.collection_name for alias in found}

    def point(self, targets: Mapping[str, str | None]) -> None:
        present, before = set(self.collections()), self.aliases()
        missing = sorted(c for c in targets.values() if c and c not in present)
        taken = sorted(a for a in targets if check_name(a) in present)
        if missing or taken:
            # Asked before, because the server does what it can of a request and keeps it.
            raise PublishError(
                f"{self._where}: no collection {missing} to point at, or collections {taken} of "
                "the alias's own name; aliases stay as they were"
            )
        operations = [
            _point_at(alias, target)
            for alias, target in targets.items()
            if target or alias in before
        ]
        if operations:
            with translated(self._where):
                self._client.update_collection_aliases(operations)
        # The server answers yes to more than it does (its issue 7584).
        after = self.aliases()
        if {a: after.get(a) for a in targets} != dict(targets):
            raise PublishError(f"{self._where}: aliases read back {after}, not {dict(targets)}")

    # -- searches

    def candidates(
        self, user_id: str, k: int, conditions: Conditions = ANY, *, names: Names
    ) -> list[Candidate]:
        check_k(k)
        user = point_id(Space.USERS, user_id)
        lookup = q.LookupLocation(collection=names.users, vector=VECTOR)
        try:
            with translated(self._where):
                return self._query(names.items, user, k, conditions, lookup)
        except PublishError:
            # The server's answer tells a missing user from a missing collection by words only.
            [stored] = self.fetch(names.users, Space.USERS, [user_id])
            if stored is not None and stored.vector is not None:
                raise
            what = "no such user" if stored is None else "the user was removed"
            raise UnknownPoint(f"{names.users}: {what}: {user_id[:80]!r}") from None

    def search(
        self, collection: str, vector: NDArray[np.float32], k: int, conditions: Conditions = ANY
    ) -> list[Candidate]:
        if vector.shape != (self._dim(collection),):
            self._dims.pop(collection)  # an alias may have been flipped to another dimension
        check_query(vector, self._dim(collection), k, collection)
        with translated(self._where):
            return self._query(collection, cast(list[float], vector.tolist()), k, conditions)

    # -- durability

    def settle(self, collection: str) -> None:
        deadline = Deadline.after(SETTLE_TIMEOUT_S)
        while True:
            info = self._info(collection)
            if info.status is not q.CollectionStatus.YELLOW:
                return
            if deadline.passed:
                raise PublishError(
                    f"{self._where}: {collection} is still being indexed after "
                    f"{SETTLE_TIMEOUT_S:.0f} s: give the server more cores, or publish less often"
                )
            self._pause(SETTLE_POLL_S)

    def backlog(self, collection: str) -> Backlog:
        info = self._info(collection)
        waiting = (info.points_count or 0) - (info.indexed_vectors_count or 0)
        return Backlog(max(waiting, 0), at_work=info.status is q.CollectionStatus.YELLOW)

    def flush(self) -> None:
        """Do nothing: the server syncs its log itself, and its replicas are the safety."""

    def close(self) -> None:
        self._client.close()

    def _info(self, collection: str) -> q.CollectionInfo:
        """What the server says of a collection whose optimiser works."""
        with translated(self._where):
            info = self._client.get_collection(collection)
        if info.status is q.CollectionStatus.RED:
            raise PublishError(f"{self._where}: {collection}: {info.optimizer_status}")
        return info

    def _dim(self, collection: str) -> int:
        if collection not in self._dims:
            with translated(self._where):
                vectors = self._client.get_collection(collection).config.params.vectors
            if not isinstance(vectors, dict) or VECTOR not in vectors:
                raise PublishError(f"{self._where}: {collection} has no vector named {VECTOR!r}")
            self._dims[collection] = vectors[VECTOR].size
        return self._dims[collection]

    def _write(self, collection: str, points: Iterable[q.PointStruct], sequence: int) -> None:
        check_sequence(sequence)
        older, rest = fence(sequence), iter(points)
        while chunk := list(islice(rest, CHUNK)):
            with translated(self._where):
                self._client.upsert(collection, chunk, wait=True, update_filter=older)

    def _query(
        self,
        collection: str,
        query: str | list[float],
        k: int,
        conditions: Conditions,
        lookup: q.LookupLocation | None = None,
    ) -> list[Candidate]:
        found = self._client.query_points(
            collection,
            query=query,
            using=VECTOR,
            lookup_from=lookup,
            query_filter=to_filter(conditions),
            search_params=q.SearchParams(hnsw_ef=SEARCH_WIDTH),
            limit=k,
            with_payload=True,
        ).points
        scored = ((p.score, cast(dict[str, object], p.payload or {})) for p in found)
        return [Candidate(cast(str, payload["id"]), score, payload) for score, payload in scored]


def _point_at(alias: str, target: str | None) -> q.AliasOperations:
    if target is None:
        return q.DeleteAliasOperation(delete_alias=q.DeleteAlias(alias_name=alias))
    create = q.CreateAlias(collection_name=target, alias_name=alias)
    return q.CreateAliasOperation(create_alias=create)


def _stored(record: q.Record) -> Stored:
    vectors = cast(dict[str, list[float]], record.vector or {})
    vector = np.array(vectors[VECTOR], np.float32) if VECTOR in vectors else None
    return Stored(vector, cast(dict[str, object], record.payload or {}))
