"""Fixtures of the tests of publishing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.edge_index import EdgeIndex
from consumers.index import VectorIndex
from consumers.publisher import Publisher
from stream.clock import ManualClock
from tests.consumers.publishing import (
    NAMES,
    Open,
    Shared,
)


@pytest.fixture
def index() -> Iterator[VectorIndex]:
    memory = Path("/dev/shm")  # the engine syncs a dozen files a collection
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        index = EdgeIndex(Path(folder))
        yield Shared(index)  # type: ignore[misc]
        index.close()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "manifest.jsonl"


@pytest.fixture
def opened(index: VectorIndex, manifest: Path) -> Iterator[Open]:
    made: list[Publisher] = []

    def make(**options: object) -> Publisher:
        made.append(Publisher(index, manifest, NAMES, ManualClock(), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()
