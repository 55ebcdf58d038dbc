"""Text vectors of items that came without one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.catalog import TEXT, Catalog


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def name(self) -> str:
        """Which model: vectors of two models are never compared."""
        ...

    @property
    def dim(self) -> int:
        """Length t of its vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text: float32[n, t]."""
        ...


class Texts:
    """Embeds the texts of newly described items, where there is an embedder.

    Parameters
    ----------
    catalog : Catalog
    embedder : Embedder, optional
        None: only vectors given in events are used.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder | None) -> None:
        self._catalog = catalog
        self._embedder = embedder

    def embed(self, items: NDArray[np.int32]) -> int:
        """Give a vector to those of these items that have text and no vector; how many."""
        if self._embedder is None:
            return 0
        records = {n: self._catalog.items[n] for n in items.tolist()}
        wanting = {n: r.text for n, r in records.items() if r.text and TEXT not in r.vectors}
        if not wanting:
            return 0
        vectors = self._embedder.embed(list(wanting.values()))
        for number, vector in zip(wanting, vectors, strict=True):
            self._catalog.attach(number, TEXT, vector)
        return len(wanting)
