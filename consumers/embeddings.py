"""Text vectors from any OpenAI-compatible endpoint, and vectors that are kept on disk."""

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from consumers.endpoint import Endpoint, Usage
from consumers.errors import EndpointFailed
from consumers.texts import Closing, Embedder, encodable
from stream.features import FeatureStore, text_key

BATCH: Final = 64


class EndpointEmbedder:
    """A model behind ``POST {base}/embeddings``.

    Parameters
    ----------
    endpoint : Endpoint
    model : str
        The model's name there.
    dim : int
        Length t of its vectors; others are refused.
    batch : int
        Texts a request.
    """

    def __init__(self, endpoint: Endpoint, model: str, dim: int, *, batch: int = BATCH) -> None:
        self.name = model
        self.dim = dim
        self._endpoint = endpoint
        self._batch = batch

    @property
    def usage(self) -> Usage:
        """What it has cost so far."""
        return self._endpoint.usage

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text: float32[n, t].

        Raises
        ------
        EndpointFailed
            No answer, or one that does not hold a finite vector of this length for each text.
        """
        rows = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), self._batch):
            part = encodable(texts[start : start + self._batch])
            answer = self._endpoint.post("embeddings", {"model": self.name, "input": part})
            try:
                rows[start : start + len(part)] = self._vectors(answer, len(part))
            except EndpointFailed as error:
                self.usage.refused[error.reason] += 1
                raise
        return rows

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _vectors(self, answer: dict[str, Any], n: int) -> NDArray[np.float32]:
        """By their index, for servers need not keep the order."""
        try:
            given = {int(one["index"]): cast(object, one["embedding"]) for one in answer["data"]}
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointFailed(
                "no-data", f"{self.name}: no data[].embedding ({error})"
            ) from error
        if given.keys() != set(range(n)):
            raise EndpointFailed(
                "wrong-count", f"{self.name}: {len(given)} vectors for {n} texts, by their index"
            )
        try:
            rows = [np.array(given[i], np.float32) for i in range(n)]
        except (TypeError, ValueError) as error:
            raise EndpointFailed("not-numbers", f"{self.name}: {error}") from error
        wrong = next((row.shape for row in rows if row.shape != (self.dim,)), None)
        if wrong is not None:
            raise EndpointFailed(
                "wrong-dimension", f"{self.name}: a vector of {wrong}, expected ({self.dim},)"
            )
        vectors = np.stack(rows)
        if not np.isfinite(vectors).all():
            raise EndpointFailed("not-finite", f"{self.name}: a vector holds NaN or infinity")
        return vectors


class Kept:
    """Another embedder's vectors, asked for once and kept on disk by the hash of their text.

    Parameters
    ----------
    embedder : Embedder
    store : FeatureStore
        Of the same model and length.
    """

    def __init__(self, embedder: Embedder, store: FeatureStore) -> None:
        if (embedder.name, embedder.dim) != (store.model, store.dim):
            raise ValueError(
                f"{embedder.name} of length {embedder.dim} does not belong in a store of"
                f" {store.model} of length {store.dim}"
            )
        self.name, self.dim = embedder.name, embedder.dim
        self._embedder = embedder
        self._store = store

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text: float32[n, t]."""
        keys = [text_key(text) for text in texts]
        vectors, present = self._store.get(keys)
        wanting = {keys[i]: texts[i] for i in np.flatnonzero(~present).tolist()}
        if not wanting:
            return vectors
        new = list(wanting)
        # By parts: what was paid for is kept, though a later part fail.
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            self._store.add(part, self._embedder.embed([wanting[key] for key in part]))
        vectors[~present] = self._store.get([keys[i] for i in np.flatnonzero(~present)])[0]
        return vectors

    def close(self) -> None:
        """Close the store, and what the embedder holds."""
        self._store.close()
        if isinstance(self._embedder, Closing):
            self._embedder.close()
