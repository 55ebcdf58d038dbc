"""Items and campaigns as tables and back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream.arrow import texts
from stream.catalog import CampaignRecord, ItemRecord
from stream.segments import Table

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_PLAIN = [f.name for f in fields(ItemRecord) if f.name != "vectors"]


def item_table(items: Mapping[int, ItemRecord]) -> Table:
    """Items by number: what they are as JSON, their vectors as float32 bytes one after another."""
    return pa.table(
        {
            "item": pa.array(list(items), pa.int32()),
            "record": pa.array([_to_json(r) for r in items.values()], pa.large_string()),
            "vectors": pa.array(
                [b"".join(v.tobytes() for v in r.vectors.values()) for r in items.values()],
                pa.large_binary(),
            ),
        }
    )


def items_of(table: Table) -> Iterator[tuple[int, ItemRecord]]:
    """Back from `item_table`."""
    numbers: list[int] = table["item"].to_numpy().tolist()
    records: list[str] = texts(table["record"])
    vectors: list[bytes] = table["vectors"].to_numpy(zero_copy_only=False).tolist()
    for number, record, content in zip(numbers, records, vectors, strict=True):
        yield number, _from_json(_decode(record), content)


def campaign_table(campaigns: Mapping[str, CampaignRecord]) -> Table:
    """Campaigns by name."""
    records = [json.dumps(asdict(c)) for c in campaigns.values()]
    return pa.table({"campaign": list(campaigns), "record": records})


def campaigns_of(table: Table) -> Iterator[tuple[str, CampaignRecord]]:
    """Back from `campaign_table`."""
    for name, record in zip(
        table["campaign"].to_pylist(), table["record"].to_pylist(), strict=True
    ):
        plain: dict[str, Any] = json.loads(record)
        plain.update((many, tuple(plain.get(many, ()))) for many in ("hours", "targeting"))
        yield name, CampaignRecord(**plain)


def _to_json(record: ItemRecord) -> str:
    plain: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    plain["vectors"] = [[name, len(v)] for name, v in record.vectors.items()]
    return json.dumps(plain)


def _from_json(plain: dict[str, Any], content: bytes) -> ItemRecord:
    vectors: dict[str, NDArray[np.float32]] = {}
    named = plain.pop("vectors")
    if named:
        values, at = np.frombuffer(content, np.float32), 0
        for name, length in named:
            vectors[name] = values[at : at + length]
            at += length
    plain["categories"] = tuple(plain["categories"])
    return ItemRecord(**plain, vectors=vectors)
