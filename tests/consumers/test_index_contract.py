"""What every vector index promises: one suite, inherited by each implementation."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.edge_index import EdgeIndex
from consumers.index import VectorIndex
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from tests.consumers.backlog_contract import BacklogContract
from tests.consumers.burial_contract import BurialContract
from tests.consumers.campaign_contract import CampaignContract
from tests.consumers.index_contract import IndexContract


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory where that can be had: the engine syncs a dozen files a collection."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


class TestEdgeIndex(IndexContract, BurialContract, CampaignContract, BacklogContract):
    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, memory: Path) -> Iterator[VectorIndex]:
        index = EdgeIndex(memory / "shared")
        yield index
        index.close()


class TestQdrantIndex(IndexContract, BurialContract, CampaignContract, BacklogContract):
    @pytest.fixture(scope="class")
    @classmethod
    def index(cls, qdrant: QdrantAddress) -> Iterator[VectorIndex]:
        index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
        before = set(index.collections())
        yield index
        made = set(index.collections()) - before
        index.point(dict.fromkeys(a for a, c in index.aliases().items() if c in made))
        for name in made:
            index.drop(name)
        index.close()
