"""Vectors of the catalogue's items by modality, as the model takes them."""

from collections.abc import Mapping

import numpy as np

from model.data import MODALITIES, Features
from stream.catalog import ItemRecord


def features_of(catalog: Mapping[int, ItemRecord], items: int) -> dict[str, Features]:
    """Rows of the catalogue's vectors by modality, for each that any item has: float32[I, t]."""
    found = {name: _rows(catalog, items, name) for name in MODALITIES}
    return {name: rows for name, rows in found.items() if rows is not None}


def _rows(catalog: Mapping[int, ItemRecord], items: int, name: str) -> Features | None:
    given = {n: r.vectors[name] for n, r in catalog.items() if name in r.vectors and n < items}
    if not given:
        return None
    numbers = np.fromiter(given, np.int64, len(given))
    vectors = np.zeros((items, len(next(iter(given.values())))), np.float32)
    vectors[numbers] = np.stack(list(given.values()))
    present = np.zeros(items, np.bool_)
    present[numbers] = True
    return Features(vectors, present)
