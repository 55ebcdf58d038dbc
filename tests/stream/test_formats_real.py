"""The formats on the real data sets, where they are."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stream.batch import Kind, Partition
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.file_source import FileSource
from stream.formats import Format, open_format

ROOT = Path(__file__).resolve().parents[2]
NOW_US = 1_795_000_000_000_000


def data(name: str) -> Path:
    """A folder of GOAT_DATA."""
    path = Path(os.environ.get("GOAT_DATA", ROOT.parent / "shared" / "data")) / name
    if not path.exists():
        pytest.skip(f"{path} is not there: set GOAT_DATA to the folder that holds {name}")
    return path


def fetched(name: str) -> Path:
    """A folder that benchmarks/fetch.py has fetched."""
    found = sorted((ROOT / ".cache" / "datasets").glob(f"*/{name}"))
    if not found:
        pytest.skip(f"{name} is not fetched: python benchmarks/fetch.py")
    return found[0]


def counted(path: Path, fmt: Format) -> tuple[Counter[Kind], Counter[str], dict[Partition, int]]:
    """Events by kind, rejects by reason, and the end of each partition; times never go back."""
    source = FileSource([path], fmt)
    codec = Codec(Limits(), ManualClock(NOW_US))
    kinds, rejected, ends = Counter[Kind](), Counter[str](), dict[Partition, int]()
    latest: dict[Partition, int] = {}
    while not source.exhausted:
        for batch in source.poll(20_000, 0.0):
            decoded = codec.decode(batch)
            kinds.update(map(Kind, decoded.events.kind.tolist()))
            rejected.update(r.reason for r in decoded.rejects)
            times = decoded.events.time_us
            assert np.all(np.diff(times, prepend=latest.get(batch.partition, 0)) >= 0)
            latest[batch.partition] = int(times[-1])
            ends[batch.partition] = batch.next_offset
    assert not any(source.lag().values())
    return kinds, rejected, ends


@pytest.mark.slow
def test_kuairand_is_read_to_the_last_row() -> None:
    kinds, rejected, ends = counted(data("kuairand_pure_part"), open_format("kuairand"))
    assert not rejected
    assert sorted(ends.values()) == [7_583, 228_329, 817_187]
    assert (kinds[Kind.ITEM], kinds[Kind.VIEW]) == (7_583, 817_187)
    clicks = kinds[Kind.CLICK] + kinds[Kind.LIKE] + kinds[Kind.AD_CLICK]
    # 703 likes without a click count as likes.
    assert clicks == 100_900 + 703
    assert clicks + kinds[Kind.IMPRESSION] == 228_329


def test_the_splits_of_baby_are_read_to_the_last_row() -> None:
    kinds, rejected, _ = counted(data("amazon_static") / "baby.parquet", open_format("mmrec"))
    assert not rejected
    assert kinds == {Kind.CLICK: 118_551 + 20_559 + 21_682}


def test_movielens_100k_is_read_to_the_last_row() -> None:
    path = fetched("recbole/dataset_example/ml-100k")
    kinds, rejected, _ = counted(path, open_format("movielens"))
    assert not rejected
    assert kinds == {Kind.CLICK: 100_000, Kind.ITEM: 1_682}
    columns = {"user": "user_id:token", "item": "item_id:token", "time": "timestamp:float"}
    kinds, rejected, _ = counted(path / "ml-100k.inter", open_format("table", columns))
    assert not rejected
    assert kinds == {Kind.CLICK: 100_000}


def test_open_bandit_is_read_to_the_last_row() -> None:
    kinds, rejected, _ = counted(fetched("obp/dataset/obd"), open_format("obd"))
    assert not rejected
    assert kinds[Kind.CLICK] + kinds[Kind.IMPRESSION] == 60_000
    assert kinds[Kind.ITEM] == 160
