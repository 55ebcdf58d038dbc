"""One collection of the embedded engine as a folder: made, read through, written anew."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import qdrant_edge as qe

from consumers.errors import PublishError
from consumers.index import BUILD_WIDTH, CHUNK, EXACT_BELOW_KB, INDEXED, LINKS, VECTOR, Space

NEW, DROPPED = ".new-", ".dropped-"
"""What the names of folders begin with that are half made, or half deleted."""


def make_shard(folder: Path, space: Space, dim: int) -> qe.EdgeShard:
    """Make an empty collection, with the indexes of its fields."""
    config = _config(space, dim)
    folder.mkdir()
    shard = qe.EdgeShard.create(str(folder), config)
    for field, kind in INDEXED[space].items():
        schema = cast(qe.PayloadSchemaType, getattr(qe.PayloadSchemaType, kind.title()))
        shard.update(qe.UpdateOperation.create_field_index(field, schema))
    return shard


def records(shard: qe.EdgeShard, *, vectors: bool) -> Iterator[qe.Record]:
    """All points, tombstones too, with their payloads and perhaps their vectors."""
    offset: qe.PointId | None = None
    while True:
        request = qe.ScrollRequest(
            offset=offset, limit=CHUNK, with_payload=True, with_vector=vectors
        )
        found, offset = shard.scroll(request)
        yield from found
        if offset is None:
            return


def rewrite_shard(shard: qe.EdgeShard, root: Path, name: str, space: Space, dim: int) -> None:
    """Put a copy of a collection in its place; only what is stored now is in it.

    The engine only marks in its files what is deleted or replaced. A crash leaves the old
    collection or the copy, as soon as `mend` has been called. The collection is closed.
    """
    half, where, doomed = root / f"{NEW}{name}", root / name, root / f"{DROPPED}{name}"
    fresh, points = make_shard(half, space, dim), records(shard, vectors=True)
    while some := list(islice(points, CHUNK)):
        fresh.update(qe.UpdateOperation.upsert_points([_point(one) for one in some]))
    fresh.optimize()
    fresh.flush()
    fresh.close()
    shard.close()
    where.rename(doomed)
    half.rename(where)
    shutil.rmtree(doomed)


def mend(root: Path) -> None:
    """Finish or undo what a crash has left half done."""
    for doomed in list(root.glob(f"{DROPPED}*")):
        name = doomed.name.removeprefix(DROPPED)
        half = root / f"{NEW}{name}"
        if half.is_dir() and not (root / name).exists():
            half.rename(root / name)  # killed between the two: the copy was whole
    for folder in list(root.glob(".*")):
        if folder.is_dir():
            shutil.rmtree(folder)


def _config(space: Space, dim: int) -> qe.EdgeConfig:
    if dim < 1:
        raise PublishError(f"a collection of {dim} dimensions")
    links = LINKS if space is Space.ITEMS else 0
    vectors = {VECTOR: qe.EdgeVectorParams(size=dim, distance=qe.Distance.Dot)}
    optimizers = qe.EdgeOptimizersConfig(indexing_threshold=EXACT_BELOW_KB)
    graph = qe.HnswIndexConfig(links, BUILD_WIDTH, EXACT_BELOW_KB)
    return qe.EdgeConfig(vectors=vectors, optimizers=optimizers, hnsw_config=graph)


def _point(record: qe.Record) -> qe.Point:
    vectors = cast(dict[str, list[float]], record.vector or {})
    payload = record.payload or {}
    if VECTOR not in vectors:
        return qe.Point(record.id, {}, payload)
    return qe.Point(record.id, {VECTOR: vectors[VECTOR]}, payload)
