"""Fixtures of the tests of snapshots."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.clock import ManualClock
from stream.snapshot import SnapshotStore, Step


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., SnapshotStore]]:
    stores: list[SnapshotStore] = []

    def open_one(step: Callable[[Step], None] = lambda _: None, keep: int = 3) -> SnapshotStore:
        for store in stores:
            store.close()
        stores.append(SnapshotStore(tmp_path, ManualClock(5), keep=keep, step=step))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()
