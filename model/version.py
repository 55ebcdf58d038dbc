"""A model version on disk: safetensors and JSON, checked by hash, written whole or not at all."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from model.errors import InvalidInput, VersionCorrupt, VersionUnwritable
from model.evidence import Calibration
from model.kept_coupling import WarmStart
from model.neighbours import Neighbours
from model.recency import Recency
from model.state import ModelState

FORMAT = 6
_UNSEALED = 5  # the same, without the head's own checksum
_TENSORS = "state.safetensors"
_ITEMS = "items.json"
_META = "version.json"
# A head nested without end is a RecursionError.
_UNREADABLE = (OSError, KeyError, TypeError, ValueError, RecursionError)


class Written(IntEnum):
    """The steps of writing a version; a step is reported when it is done."""

    BEGUN = 1
    FILES = 2
    SYNCED = 3
    NAMED = 4
    KEPT = 5


def unwatched(_: Written) -> None:
    """Nobody is told of the steps."""


@dataclass(frozen=True, slots=True)
class Version:
    """A model version as read from disk.

    Attributes
    ----------
    state : ModelState
    item_ids : I strings
        External id of each row of the item table.
    meta : JSON object
        What the writer added: number, graph snapshot, config, metrics.
    """

    state: ModelState
    item_ids: tuple[str, ...]
    meta: Mapping[str, Any]


def save(
    state: ModelState,
    directory: Path,
    *,
    item_ids: tuple[str, ...],
    meta: Mapping[str, Any],
    step: Callable[[Written], None] = unwatched,
) -> None:
    """Write a version so that a reader finds all of it or nothing.

    Parameters
    ----------
    directory : Path
        Must not exist; appears by one rename after its files are on disk.
    meta : JSON object
    step : called as it goes on, once for each file; for tests of crashes

    Raises
    ------
    InvalidInput
        The directory exists, or there is not one id per item.
    VersionUnwritable
        The disk is full, or may not be written to; nothing but a draft was left.
    """
    if directory.exists():
        raise InvalidInput(f"{directory} exists: a version is never overwritten")
    if len(item_ids) != len(state.items):
        raise InvalidInput(f"{len(item_ids)} item ids for {len(state.items)} item vectors")
    blobs = {
        _TENSORS: save_tensors(tensors(state)),
        _ITEMS: json.dumps(item_ids, ensure_ascii=False).encode(),
    }
    head = {
        "format": FORMAT,
        "files": {name: _digest(content) for name, content in blobs.items()},
        "trained_upto": state.trained_upto,
        "steps": state.steps,
        "meta": dict(meta),
    }
    try:
        _write_whole(directory, blobs | {_META: sealed(head)}, step)
    except OSError as error:
        raise VersionUnwritable(
            f"{directory}: cannot be written: {error}. Free space, or let this user write there"
        ) from error


def load(directory: Path) -> Version:
    """Read a version.

    Raises
    ------
    VersionCorrupt
        A file is missing, fails its hash, or is of another format.
    """
    try:
        head = _head(directory)
        if set(head["files"]) != {_TENSORS, _ITEMS}:
            raise VersionCorrupt(f"{directory / _META} names other files than a version has")
        blobs = {name: _read(directory, name) for name in (_TENSORS, _ITEMS)}
        for name, expected in head["files"].items():
            if _digest(blobs[name]) != expected:
                raise VersionCorrupt(f"{directory / name} fails its checksum: restore or delete it")
        arrays = load_tensors(blobs[_TENSORS])
        ids = tuple(json.loads(blobs[_ITEMS]))
        state = _state(arrays, int(head["trained_upto"]), int(head["steps"]))
    except (*_UNREADABLE, SafetensorError, InvalidInput) as error:
        raise VersionCorrupt(f"{directory} is not a whole model version: {error}") from error
    if len(ids) != len(state.items):
        raise VersionCorrupt(f"{directory} has {len(ids)} ids for {len(state.items)} items")
    return Version(state, ids, head["meta"])


def read_meta(directory: Path) -> Mapping[str, Any]:
    """What the writer added, without reading or checking the arrays.

    Raises
    ------
    VersionCorrupt
        The head is missing, not ours, or fails its checksum.
    """
    try:
        meta: Mapping[str, Any] = _head(directory)["meta"]
    except _UNREADABLE as error:
        raise VersionCorrupt(f"{directory} is not a whole model version: {error}") from error
    return meta


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of each file of a version as it is on disk, by name.

    Raises
    ------
    VersionCorrupt
        One cannot be read.
    """
    try:
        return {p.name: _digest(p.read_bytes()) for p in sorted(directory.iterdir())}
    except OSError as error:
        raise VersionCorrupt(f"{directory} is not a whole model version: {error}") from error


def told(directory: Path) -> dict[str, str]:
    """SHA-256 of each file of a version as its head says, and the head's own.

    Raises
    ------
    VersionCorrupt
        The head is missing or not ours.
    """
    try:
        content = _read(directory, _META)
        files: dict[str, str] = _head(directory)["files"]
    except _UNREADABLE as error:
        raise VersionCorrupt(f"{directory} is not a whole model version: {error}") from error
    return {**files, _META: _digest(content)}


def _head(directory: Path) -> dict[str, Any]:
    """What stands in the head, checked."""
    head = dict[str, Any](json.loads(_read(directory, _META)))
    told = head.pop("sha256", None)
    if head["format"] not in (FORMAT, _UNSEALED):
        raise VersionCorrupt(
            f"{directory} has format {head['format']}, this program reads {_UNSEALED} and {FORMAT}"
        )
    if (head["format"] == FORMAT or told is not None) and told != _digest(_canonical(head)):
        raise VersionCorrupt(f"{directory / _META} fails its checksum: restore or delete it")
    return head


def sealed(head: Mapping[str, Any]) -> bytes:
    """A head as it is written, with its checksum."""
    plain = json.loads(json.dumps(head))
    plain.pop("sha256", None)
    return json.dumps({**plain, "sha256": _digest(_canonical(plain))}, indent=1).encode()


def _canonical(head: dict[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def tensors(state: ModelState) -> dict[str, NDArray[Any]]:
    """Everything in a version that is an array, by the name that it has on disk."""
    out: dict[str, NDArray[Any]] = {
        "items": state.items,
        "recency/position": state.recency.position,
        "recency/gap": state.recency.gap,
        "learned": state.learned,
    }
    out |= {f"parameter/{name}": array for name, array in state.parameters.items()}
    out |= {f"moment/{name}": array for name, array in state.moments.items()}
    if state.late is not None:
        out["late"] = state.late
    for space, kept in state.potentials.items():
        out |= {f"transport/{space}/{name}": array for name, array in kept.arrays().items()}
    if state.neighbours is not None:
        near = state.neighbours
        out |= {"near/ids": near.ids, "near/cosine": near.cosine, "near/stamp": near.stamp}
    if state.calibration is not None:
        own = state.calibration.arrays()
        out |= {f"calibration/{name}": array for name, array in own.items()}
    if state.expected is not None:
        out["expected"] = state.expected
    # Not `ascontiguousarray`, which gives a scalar a dimension.
    return {name: np.asarray(array, order="C") for name, array in out.items()}


def _state(arrays: dict[str, NDArray[Any]], trained_upto: int, steps: int) -> ModelState:
    def under(prefix: str) -> dict[str, NDArray[np.float32]]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    calibrated: dict[str, NDArray[Any]] = dict(under("calibration/"))
    spaces = {k.split("/")[1] for k in arrays if k.startswith("transport/")}
    return ModelState(
        items=arrays["items"],
        recency=Recency(arrays["recency/position"], arrays["recency/gap"]),
        learned=arrays["learned"],
        parameters=under("parameter/"),
        moments=under("moment/"),
        steps=steps,
        trained_upto=trained_upto,
        potentials={
            space: WarmStart.from_arrays(dict(under(f"transport/{space}/")))
            for space in sorted(spaces)
        },
        late=arrays.get("late"),
        neighbours=(
            Neighbours(arrays["near/ids"], arrays["near/cosine"], arrays["near/stamp"])
            if "near/ids" in arrays
            else None
        ),
        calibration=Calibration.from_arrays(calibrated) if calibrated else None,
        expected=arrays.get("expected"),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_whole(
    directory: Path, blobs: Mapping[str, bytes], step: Callable[[Written], None]
) -> None:
    """Write files under another name first; the directory appears by one rename."""
    draft = directory.with_name(f".{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    step(Written.BEGUN)  # 1
    for name, content in blobs.items():
        _write(draft / name, content)
        step(Written.FILES)  # 2
    _sync(draft)
    step(Written.SYNCED)  # 3
    draft.rename(directory)
    step(Written.NAMED)  # 4
    _sync(directory.parent)
    step(Written.KEPT)  # 5


def _read(directory: Path, name: str) -> bytes:
    """Read a regular file of a folder; neither may be a link to elsewhere."""
    if directory.is_symlink():
        raise OSError("it is a symbolic link, which is not followed")
    handle = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{name} is no regular file")
        return file.read()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
