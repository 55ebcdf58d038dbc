"""Interactions that come already split into train, valid and test, as MMRec keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream import atomic
from stream.arrow import Column, pa, pc
from stream.errors import FormatError
from stream.fragments import text
from stream.rows import PARQUET_SUFFIXES, joined

TRAIN, VALID, TEST = 0, 1, 2
NAMES: Final = ("train", "valid", "test")
_ABOUT: Final = (".item", *(f"_items{suffix}" for suffix in PARQUET_SUFFIXES))


@dataclass(frozen=True, slots=True)
class Split:
    """Who had what, in which part; users and items are numbered in order of appearance.

    Attributes
    ----------
    user, item : int64[n]
    part : int64[n]
        `TRAIN`, `VALID` or `TEST`.
    users, items : int
        Items of all parts, and those that are only described.
    texts : I strings, empty where nothing is said, or none at all
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    part: NDArray[np.int64]
    users: int
    items: int
    texts: Sequence[str] = ()


def read_split(file: Path, about: Path | None = None) -> Split:
    """Read a file of interactions (``.inter`` or Parquet) that has a column of parts.

    Parameters
    ----------
    about : Path
        File that describes the items; by default the one of the same name with ``.item`` or
        ``_items.parquet`` in place of the suffix, where there is one.

    Raises
    ------
    FormatError
        A column is missing, a row has no user or item, or a part is none of train, valid, test
        (or 0, 1, 2).
    SourceError
        The file cannot be read.
    """
    found = atomic.header(file)
    user, item, part = (
        atomic.need(file, found, names) for names in (atomic.USER, atomic.ITEM, atomic.SPLIT)
    )
    rows = joined(list(atomic.read(file, (user, item, part))), (user, item, part)).columns
    users, owner = _numbered(file, rows[user])
    items, had = _numbered(file, rows[item])
    parts = _parts(file, rows[part])
    described = _described(about or _beside(file))
    acted_on = set(items)
    items += [name for name in described if name not in acted_on]
    texts = [described.get(name, "") for name in items] if described else []
    return Split(owner, had, parts, len(users), len(items), texts)


def _numbered(file: Path, values: Column) -> tuple[list[str], NDArray[np.int64]]:
    coded = text(values).dictionary_encode()
    if coded.null_count:
        row = pc.index(pc.is_null(coded.indices), True).as_py()
        raise FormatError(f"{file}: row {row} has no user or no item: leave such rows out")
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def _parts(file: Path, values: Column) -> NDArray[np.int64]:
    labels = text(values)
    named = pc.index_in(labels, value_set=pa.array(NAMES))
    place = pc.coalesce(named, pc.index_in(labels, value_set=pa.array(["0", "1", "2"])))
    if place.null_count:
        row = pc.index(pc.is_null(place), True).as_py()
        raise FormatError(
            f"{file}: row {row} is of part {labels[row].as_py()!r}, expected {', '.join(NAMES)}"
            " or 0, 1, 2"
        )
    numbers: NDArray[np.int64] = place.to_numpy().astype(np.int64)
    return numbers


def _beside(file: Path) -> Path | None:
    named = (file.with_name(file.stem + ending) for ending in _ABOUT)
    return next((path for path in named if path.is_file()), None)


def _described(file: Path | None) -> Mapping[str, str]:
    """Texts by item: titles, categories and descriptions, whichever there are."""
    if file is None:
        return {}
    found = atomic.header(file)
    item = atomic.need(file, found, atomic.ITEM)
    kinds = (atomic.TITLE, atomic.CATEGORIES, atomic.DESCRIPTION)
    said = [name for names in kinds if (name := atomic.pick(found, names))]
    rows = joined(list(atomic.read(file, (item, *said))), (item, *said)).columns
    columns = [text(rows[name]).to_pylist() for name in said]
    names: list[str | None] = text(rows[item]).to_pylist()
    lines = zip(*columns, strict=True) if columns else [()] * len(names)
    return {
        name: ". ".join(word for word in line if word)
        for name, line in zip(names, lines, strict=True)
        if name is not None
    }
