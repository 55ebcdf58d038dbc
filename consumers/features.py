"""Text vectors of the catalogue as the model takes them."""

from collections.abc import Mapping

import numpy as np

from model.data import TextFeatures
from stream.catalog import TEXT, ItemRecord


def text_features(catalog: Mapping[int, ItemRecord], items: int) -> TextFeatures | None:
    """Rows of the catalogue's text vectors: float32[I, t] and which are there."""
    given = {n: r.vectors[TEXT] for n, r in catalog.items() if TEXT in r.vectors and n < items}
    if not given:
        return None
    numbers = np.fromiter(given, np.int64, len(given))
    vectors = np.zeros((items, len(next(iter(given.values())))), np.float32)
    vectors[numbers] = np.stack(list(given.values()))
    present = np.zeros(items, np.bool_)
    present[numbers] = True
    return TextFeatures(vectors, present)
