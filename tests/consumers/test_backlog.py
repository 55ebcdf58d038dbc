"""Whether the index keeps up: asked now and then, and answered by what the engines say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from qdrant_client import models as q

from consumers.backlog import LOOK_EVERY_US, BacklogWatch
from consumers.edge_index import EdgeIndex
from consumers.errors import PublishError
from consumers.index import Backlog, Names, PointBatch, Space
from consumers.local_qdrant import QdrantAddress
from consumers.publisher import Publisher
from consumers.qdrant_index import QdrantIndex

WIDE, MANY = 10_000, 1_700
"""More than what is always scanned."""
DIM = 64


def publisher_of(*told: Backlog) -> Publisher:
    said = list(told)
    index = SimpleNamespace(backlog=lambda name: said.pop(0) if name == "b-items" else None)
    return cast(Publisher, SimpleNamespace(index=index, names=Names.of("b")))


def test_it_is_long_while_the_index_works_at_more_than_the_bound() -> None:
    watch = BacklogWatch(100)
    told = (101, True), (100, True), (5_000, False), (101, True)
    publisher = publisher_of(*(Backlog(*one) for one in told))
    found = [watch.look(publisher, n * LOOK_EVERY_US) for n in range(4)]
    assert found == [True, False, False, True]
    assert watch.last == Backlog(101, at_work=True)


def test_it_is_asked_now_and_then() -> None:
    watch = BacklogWatch(100)
    publisher = publisher_of(Backlog(101, at_work=True), Backlog(0, at_work=False))
    assert watch.look(publisher, 0) and watch.look(publisher, LOOK_EVERY_US - 1)
    assert not watch.look(publisher, LOOK_EVERY_US)


def random_points(n: int, dim: int) -> PointBatch:
    vectors = np.random.default_rng(n).random((n, dim), np.float32)
    return PointBatch([f"i{i}" for i in range(n)], vectors, [{}] * n)


@pytest.mark.slow
def test_the_engine_in_this_process_has_none_once_its_graph_is_built(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path)
    index.create("wide", Space.ITEMS, WIDE)
    index.upsert("wide", Space.ITEMS, random_points(MANY, WIDE), epoch=1, sequence=1)
    assert index.backlog("wide") == Backlog(MANY, at_work=False)
    index.settle("wide")
    assert index.backlog("wide").points < MANY // 10
    index.close()


def test_a_server_has_none_once_its_graph_is_built(qdrant: QdrantAddress) -> None:
    index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
    index.create("backlog-1", Space.ITEMS, DIM)
    at_once = q.OptimizersConfigDiff(indexing_threshold=10, default_segment_number=1)
    index._client.update_collection("backlog-1", optimizers_config=at_once)
    index.upsert("backlog-1", Space.ITEMS, random_points(2_000, DIM), epoch=1, sequence=1)
    for _ in range(100):  # it is green for a moment before it begins
        index.settle("backlog-1")
        if index.backlog("backlog-1").points < 1_000:
            break
        index._pause(0.1)
    assert index.backlog("backlog-1").points < 1_000
    index.drop("backlog-1")
    index.close()


def test_a_server_says_whether_it_is_at_work_and_that_it_has_failed(
    qdrant: QdrantAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
    told: dict[str, Any] = {"optimizer_status": "no space left"}
    told |= {"points_count": 50, "indexed_vectors_count": 20}
    for state, at_work in (("GREEN", False), ("YELLOW", True), ("GREY", False), ("RED", None)):
        info = SimpleNamespace(status=q.CollectionStatus[state], **told)
        monkeypatch.setattr(index._client, "get_collection", lambda _, info=info: info)
        if at_work is None:
            with pytest.raises(PublishError, match="no space left"):
                index.backlog("any")
        else:
            assert index.backlog("any") == Backlog(30, at_work=at_work)
    index.close()
