"""Vectors of texts by the hash of what they were made from: append-only, memory-mapped, growing.

Three files in a folder: ``features.json`` names the model and the length of its vectors,
``vectors.f32`` holds rows, ``keys.bin`` holds a fixed-size record a row. A row counts once its
record is there: vectors are written first, so what a crash cut off is overwritten by the next row.
A text that is known to have no vector has a record all the same (the missing mask); a later record
of the same key replaces it.
"""

import fcntl
import json
import os
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stream.errors import FeaturesCorrupt, FeaturesForeign, StoreInUse
from stream.segments import replace_file

FORMAT: Final = 1
_RECORD: Final = np.dtype([("key", "V32"), ("present", "u1"), ("crc", "<u4")])


def text_key(text: str) -> bytes:
    """The key of a text: SHA-256 of its UTF-8, lone surrogates and all."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


class FeatureStore:
    """One model's vectors; one process at a time.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    model : str
    dim : int
        Length d of a vector.

    Raises
    ------
    FeaturesForeign
        The folder holds another model's vectors, or of another length.
    StoreInUse
        Another process has it open.
    FeaturesCorrupt
        There are fewer vectors than records.
    """

    def __init__(self, folder: Path, model: str, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"vectors have at least one component: got {dim}")
        self._records: NDArray[np.void] = np.zeros(0, _RECORD)
        self._map: NDArray[np.float32] = np.empty((0, dim), np.float32)
        self._row: dict[bytes, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.model, self.dim = model, dim
        self._check_head(folder / "features.json")
        self._path = folder / "vectors.f32"
        self._keys = (folder / "keys.bin").open("a+b")
        try:
            fcntl.flock(self._keys, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._keys.close()
            raise StoreInUse(f"{folder}: another process has these vectors open") from error
        self._vectors = self._path.open("r+b" if self._path.exists() else "w+b")
        try:
            self._load()
        except FeaturesCorrupt:
            self.close()
            raise

    def __len__(self) -> int:
        """Keys known, those without a vector included."""
        return len(self._row)

    def close(self) -> None:
        """Let go of the files."""
        self._vectors.close()
        self._keys.close()

    def known(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which of these keys were added, with a vector or without: bool[n]."""
        return np.fromiter((key in self._row for key in keys), np.bool_, len(keys))

    def get(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors by key.

        Returns
        -------
        vectors : float32[n, d]
            Zero where there is none.
        present : bool[n]

        Raises
        ------
        FeaturesCorrupt
            A vector is not what was written.
        """
        row = np.fromiter((self._row.get(key, -1) for key in keys), np.int64, len(keys))
        present = row >= 0
        present[present] = self._records["present"][row[present]] == 1
        out = np.zeros((len(keys), self.dim), np.float32)
        if present.any():
            out[present] = self._mapped()[row[present]]
            self._verify(out[present], row[present])
        return out, present

    def add(
        self,
        keys: Sequence[bytes],
        vectors: NDArray[np.float32],
        present: NDArray[np.bool_] | None = None,
    ) -> None:
        """Append rows and force them to the disk; a key given before is replaced.

        Parameters
        ----------
        keys : n keys of 32 bytes
        vectors : float32[n, d]
        present : bool[n], default all
            False where it is known that there is no vector; its row is not read.

        Raises
        ------
        ValueError
            The shapes do not fit, or a vector that is present is not finite.
        """
        there = np.ones(len(keys), np.bool_) if present is None else present
        if vectors.shape != (len(keys), self.dim) or there.shape != (len(keys),):
            raise ValueError(
                f"{len(keys)} keys of vectors of length {self.dim}: got {vectors.shape} and"
                f" a mask of {there.shape}"
            )
        if any(len(key) != _RECORD["key"].itemsize for key in keys):
            raise ValueError("a key is 32 bytes: use text_key")
        rows = np.where(there[:, None], vectors, 0).astype("<f4")
        if not np.isfinite(rows).all():
            raise ValueError("a vector holds NaN or infinity")
        records = np.zeros(len(keys), _RECORD)
        records["key"] = np.array(list(keys), "V32")
        records["present"] = there
        records["crc"] = [crc32(row.tobytes()) for row in rows]
        self._append(records, rows)

    def _append(self, records: NDArray[np.void], rows: NDArray[np.float32]) -> None:
        first = len(self._records)
        self._vectors.seek(first * self.dim * 4)
        self._vectors.write(rows.tobytes())
        _force(self._vectors)  # 1 vectors, 2 records: a record without a vector is corruption
        self._keys.write(records.tobytes())
        _force(self._keys)
        self._records = np.concatenate([self._records, records])
        self._index(first)

    def _mapped(self) -> NDArray[np.float32]:
        """All rows as they lie on disk, float32[rows, d]; mapped anew when there are more."""
        if len(self._map) < len(self._records):
            shape = (len(self._records), self.dim)
            self._map = np.memmap(self._path, "<f4", "r", shape=shape)
        return self._map

    def _verify(self, vectors: NDArray[np.float32], row: NDArray[np.int64]) -> None:
        for vector, at in zip(vectors, row.tolist(), strict=True):
            if crc32(vector.tobytes()) != self._records["crc"][at]:
                raise FeaturesCorrupt(
                    f"{self._path}: row {at} fails its checksum; remove {self._path.parent}"
                    " to have the vectors made anew"
                )

    def _load(self) -> None:
        self._keys.seek(0)
        content = self._keys.read()
        whole = len(content) // _RECORD.itemsize
        self._keys.truncate(whole * _RECORD.itemsize)  # what a crash cut off
        self._records = np.frombuffer(content, _RECORD, whole)
        size, needed = self._path.stat().st_size, whole * self.dim * 4
        if size < needed:
            raise FeaturesCorrupt(
                f"{self._path}: {size} bytes, expected {needed} for {whole} vectors; remove"
                f" {self._path.parent} to have them made anew"
            )
        self._index(0)

    def _index(self, first: int) -> None:
        for at, key in enumerate(self._records["key"][first:], first):
            self._row[key.tobytes()] = at

    def _check_head(self, path: Path) -> None:
        mine = {"format": FORMAT, "model": self.model, "dim": self.dim}
        if not path.exists():
            replace_file(path, json.dumps(mine).encode())
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise FeaturesCorrupt(f"{path}: not JSON: {error}") from error
        if found != mine:
            raise FeaturesForeign(f"{path}: holds {found}, expected {mine}: name another folder")


def read(folder: Path, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors by key, without keeping others from adding some: what is there whole is seen.

    Returns
    -------
    vectors : float32[n, d]
        Of whichever model's store it is; zero where there is none.
    present : bool[n]

    Raises
    ------
    FeaturesCorrupt
        There is no store, or it is damaged.
    """
    try:
        dim = int(json.loads((folder / "features.json").read_bytes())["dim"])
        content = (folder / "keys.bin").read_bytes()
        records = np.frombuffer(content, _RECORD, len(content) // _RECORD.itemsize)
        rows = np.fromfile(folder / "vectors.f32", "<f4", len(records) * dim)
        table = rows.reshape(len(records), dim).astype(np.float32)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FeaturesCorrupt(f"{folder}: no whole store of vectors: {error}") from error
    at = {key.tobytes(): number for number, key in enumerate(records["key"])}
    row = np.fromiter((at.get(key, -1) for key in keys), np.int64, len(keys))
    present = row >= 0
    present[present] = records["present"][row[present]] == 1
    vectors = np.zeros((len(keys), dim), np.float32)
    vectors[present] = table[row[present]]
    for vector, number in zip(vectors[present], row[present].tolist(), strict=True):
        if crc32(vector.tobytes()) != records["crc"][number]:
            raise FeaturesCorrupt(f"{folder}: row {number} fails its checksum; remove the folder")
    return vectors, present


def keep_only(folder: Path, keys: Collection[bytes]) -> int:
    """Blank the rows of all other keys, in place and on the disk; how many there were.

    Raises
    ------
    StoreInUse
        Another process has the store open.
    """
    dim = int(json.loads((folder / "features.json").read_bytes())["dim"])
    with (folder / "keys.bin").open("r+b") as file, (folder / "vectors.f32").open("r+b") as rows:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUse(f"{folder}: another process has these vectors open") from error
        content = file.read()
        records = np.frombuffer(content, _RECORD, len(content) // _RECORD.itemsize)
        kept = {*keys, bytes(_RECORD["key"].itemsize)}
        doomed = [at for at, key in enumerate(records["key"]) if key.tobytes() not in kept]
        for at in doomed:
            file.seek(at * _RECORD.itemsize)
            file.write(bytes(_RECORD.itemsize))  # first: a record without its vector is corruption
        _force(file)
        for at in doomed:
            rows.seek(at * dim * 4)
            rows.write(bytes(dim * 4))
        _force(rows)
    return len(doomed)


def _force(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
