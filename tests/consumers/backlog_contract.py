"""What every vector index says of the work that it has left."""

import numpy as np
import pytest

from consumers.errors import PublishError
from consumers.index import Names, PointBatch, Space, VectorIndex

DIM = 8


class BacklogContract:
    """Subclasses give `index` and inherit `prefix` and `items` from the rest of the contract."""

    def test_what_is_scanned_is_a_backlog_that_nobody_works_at(
        self, index: VectorIndex, items: str, prefix: str
    ) -> None:
        assert index.backlog(items).points == 0
        vectors = np.ones((30, DIM), np.float32)
        points = PointBatch([f"i{n}" for n in range(30)], vectors, [{}] * 30)
        index.upsert(items, Space.ITEMS, points, epoch=1, sequence=1)
        index.settle(items)
        index.point({Names.of(prefix).items: items})
        for name in (items, Names.of(prefix).items):
            found = index.backlog(name)
            assert (found.points, found.at_work) == (30, False)

    def test_a_collection_that_is_not_there_has_none(self, index: VectorIndex) -> None:
        with pytest.raises(PublishError):
            index.backlog("never-was")
