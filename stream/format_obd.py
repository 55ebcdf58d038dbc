"""Open Bandit Dataset: what a fashion shop showed, where, how likely, and whether it was clicked.

References
----------
Saito et al., "Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy
Evaluation", NeurIPS Datasets and Benchmarks 2021.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from stream.arrow import Column, pa, pc
from stream.csv_rows import Layout, header_of, read_csv
from stream.event_time import parsed
from stream.fragments import digests, quoted, text
from stream.interactions import Fields, amounts, interactions, only_for
from stream.items import Described, Slice, described
from stream.locate import find, is_file, relative
from stream.parts import ColumnsPart, Part
from stream.rows import Rows, joined
from stream.table_part import TablePart

_SINCE: Final = datetime(2019, 11, 1, tzinfo=UTC)  # before the log
_COMMAS: Final = Layout(separator=",")
_CONTEXT: Final = "item_context.csv"
_CATEGORIES: Final = tuple(f"item_feature_{n}" for n in (1, 2, 3))
_USER: Final = tuple(f"user_feature_{n}" for n in range(4))
_LOG: Final = ("timestamp", "item_id", "position", "click", "propensity_score", *_USER)


class OpenBandit:
    """Format ``obd``: a folder of the data set (all of it, a policy or a campaign), or one log."""

    def parts(self, path: Path) -> Sequence[Part]:
        """For each campaign its items, then its logs, by name."""
        files = find(path, "obd", _fits, ("men.csv, women.csv or all.csv", _CONTEXT))
        if not is_file(path):
            # Both policies log the same campaigns: their items are told of once.
            told: dict[str, Path] = {}
            for file in files:
                if file.name == _CONTEXT:
                    told.setdefault(_campaign(file), file)
            files = [*told.values(), *(file for file in files if file.name != _CONTEXT)]
        return [_part(file, relative(file, path)) for file in files]


def _fits(file: Path) -> bool:
    return file.suffix == ".csv" and (
        file.name == _CONTEXT or "propensity_score" in header_of(file, _COMMAS)
    )


def _campaign(file: Path) -> str:
    """Campaigns number their items apart; the folder or the log has the campaign's name."""
    return file.resolve().parent.name if file.name == _CONTEXT else file.stem


def _part(file: Path, name: str) -> Part:
    campaign = _campaign(file)
    if file.name == _CONTEXT:
        return ColumnsPart(name, partial(_load_items, file, campaign))
    return TablePart(
        name,
        file,
        partial(_read, file, _LOG),
        lambda rows: parsed(rows.columns["timestamp"]),
        partial(_encode, campaign),
    )


def _read(file: Path, wanted: Sequence[str]) -> Iterator[Rows]:
    return read_csv(file, wanted, _COMMAS)


def _encode(campaign: str, rows: Rows) -> Column:
    """A row clicked is a click, any other an impression."""
    column = rows.columns
    clicked = pc.fill_null(pc.equal(column["click"], "1"), fill_value=False)
    types = pc.if_else(clicked, "click", "impression")
    propensity = only_for(types, ("impression",), amounts(column["propensity_score"]))
    fields = Fields(
        user=_users(rows),
        item=_items(campaign, column["item_id"]),
        time=column["timestamp"],
        type=types,
        kind=pc.if_else(clicked, "click", None),
        more={
            "position": _positions(column["position"]),
            "propensity": propensity,
            "campaign_id": quoted(pa.array([campaign] * len(rows), pa.string())),
        },
        salt=campaign.encode()[:16],
    )
    return interactions(rows, fields)


def _users(rows: Rows) -> Column:
    """The data names no users: people whose four features agree count as one."""
    features = pc.binary_join_element_wise(*(rows.columns[name] for name in _USER), "/")
    known = ["" if found is None else found for found in features.to_pylist()]
    ids = pc.utf8_slice_codeunits(digests((f.encode() for f in known), b"user"), 1, 17)
    return pc.if_else(pc.is_valid(features), pc.binary_join_element_wise("u", ids, ""), None)


def _items(campaign: str, items: Column) -> Column:
    return pc.binary_join_element_wise(campaign, text(items), "-")


def _positions(places: Column) -> Column:
    """Places count from 1 there and from 0 here; what is no number goes out as it is."""
    whole = pc.match_substring_regex(places, "^[1-9][0-9]{0,5}$")
    numbers = pc.if_else(whole, places, None).cast(pa.int64())
    return pc.coalesce(pc.subtract(numbers, np.int64(1)).cast(pa.string()), quoted(places))


def _load_items(file: Path, campaign: str) -> tuple[int, Slice]:
    wanted = ("item_id", *_CATEGORIES)
    rows = joined(list(_read(file, wanted)), wanted)
    # A value means something within its feature only.
    features = [
        [
            None if value is None else f"{name[5:]}={value}"
            for value in rows.columns[name].to_pylist()
        ]
        for name in _CATEGORIES
    ]
    categories = [[value for value in row if value] for row in zip(*features, strict=True)]
    item = _items(campaign, rows.columns["item_id"])
    names = pa.array([campaign] * len(rows), pa.string())
    return described(rows, Described(item, _SINCE, campaign=names, categories=categories))
