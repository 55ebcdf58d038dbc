"""What all tests share: the two real servers, started once and only when a test asks for them.

A server that cannot be had fails the tests that need it, with the reason; ``-m "not servers"``
(`make test-unit`) is the way to do without. GOAT_KAFKA and GOAT_QDRANT name servers to use instead.

Beside each other (`-n`) tests go file by file, each worker with servers of its own.
"""

import os
from collections.abc import Iterator

import pytest

from consumers import local
from consumers.local_qdrant import QdrantAddress

SERVER_FIXTURES = {"kafka", "qdrant"}

# Workers and the programs they start share the cores: threads that wait for each other by spinning
# would take them from the others. Before torch and numpy are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files that take long first: at the end nobody is to wait for one.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if not SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a Kafka broker, ``host:port``; use a topic of your own name."""
    with local.kafka(lambda: request.session.testsfailed > 0) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def qdrant(request: pytest.FixtureRequest) -> Iterator[QdrantAddress]:
    """Address of a Qdrant server; use collections of your own name."""
    with local.qdrant(lambda: request.session.testsfailed > 0) as address:
        yield address
