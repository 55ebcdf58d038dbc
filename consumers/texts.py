"""Text vectors of items that came without one."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from consumers.errors import LanguageError
from stream.catalog import TEXT, Catalog

_LONGEST_REST: Final = 64
GIVEN: Final = "given"
"""Who made the vectors that came in events: nobody we know."""


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


@runtime_checkable
class Closing(Protocol):
    """Holds connections or files."""

    def close(self) -> None:
        """Let go of them."""
        ...


def encodable(texts: Sequence[str]) -> list[str]:
    """The same with ``?`` for lone surrogates, which neither JSON nor a tokenizer takes."""
    return [text.encode("utf-8", "replace").decode() for text in texts]


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
        self._waiting: set[int] = set()
        self._rest = 0
        self._next_rest = 1
        self.refused: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Which model the vectors are of."""
        return GIVEN if self._embedder is None else self._embedder.name

    def close(self) -> None:
        """Let go of what the embedder holds."""
        if isinstance(self._embedder, Closing):
            self._embedder.close()

    def recover(self) -> None:
        """Have items that are described and have no vector wait for one, after a restart."""
        self._waiting.update(self._catalog.items)

    def embed(self, items: NDArray[np.int32]) -> int:
        """Give a vector to those of these items that have text and no vector; how many.

        A model that fails does not stop the stream: its items wait, and it is asked again after
        1, 2, 4 .. 64 further batches. `refused` counts the failures by reason.
        """
        if self._embedder is None:
            return 0
        self._waiting.update(items.tolist())
        if self._rest:
            self._rest -= 1
            return 0
        records = {n: self._catalog.items[n] for n in sorted(self._waiting)}
        wanting = {n: r.text for n, r in records.items() if r.text and TEXT not in r.vectors}
        self._waiting = set(wanting)
        if not wanting:
            return 0
        try:
            vectors = self._embedder.embed(list(wanting.values()))
        except LanguageError as error:
            self.refused[error.reason] += 1
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
            return 0
        self._waiting, self._next_rest = set(), 1
        for number, vector in zip(wanting, vectors, strict=True):
            self._catalog.attach(number, TEXT, vector)
        return len(wanting)
