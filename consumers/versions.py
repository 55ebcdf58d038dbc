"""Model versions on disk: numbered folders, each naming the graph snapshot it learned from."""

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from consumers.errors import VersionMissing
from consumers.manifest_steps import Origin
from model import version as files
from model.config import ModelConfig
from model.errors import VersionCorrupt
from model.state import ModelState

KEPT = 5
_DEFAULTS = ModelConfig().model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Version:
    """One model version.

    Attributes
    ----------
    number : int
        From 1, higher is later.
    snapshot : int
        Number of the graph snapshot it learned from.
    meta : what the fine-tune wrote about itself
    """

    number: int
    snapshot: int
    path: Path
    meta: Mapping[str, object]

    @property
    def origin(self) -> Origin:
        """What the manifest says of vectors made by this version."""
        meta = self.meta
        config = cast(Mapping[str, object], meta.get("config", {}))
        base = meta.get("base")
        seed = meta.get("rng_seed")
        return Origin(
            model=str(self.number),
            snapshot=str(self.snapshot),
            offsets=cast(Mapping[str, int], meta.get("positions", {})),
            snapshot_hash=str(meta.get("snapshot_hash", "")),
            numbering=self.numbering,
            files=files.told(self.path),
            parent="" if base is None else str(base),
            anew=meta.get("anew") is not None,
            edges=int(str(meta.get("edges", 0))),
            window_us=int(str(meta.get("window_us", 0))),
            config={k: v for k, v in config.items() if _DEFAULTS.get(k, _DEFAULTS) != v},
            config_hash=sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
            seed=None if seed is None else int(str(seed)),
            made_with=cast(Mapping[str, str], meta.get("made_with", {})),
        )

    @property
    def numbering(self) -> int:
        """Of users, items and edges, which a state that is rebuilt begins anew."""
        return int(str(self.meta.get("numbering", 0)))

    @property
    def alignment(self) -> Mapping[str, Mapping[str, Any]]:
        """Evidence by modality, as `model.alignment.Alignment` names it; empty without any."""
        report = cast(Mapping[str, Mapping[str, Any]], self.meta.get("report", {}))
        return report.get("alignment", {})

    def load(self) -> ModelState:
        """Read the arrays, checking their hashes."""
        return files.load(self.path).state


class Versions:
    """The folder of versions.

    Parameters
    ----------
    root : Path
    step : called as a version is written; for tests of crashes
    """

    def __init__(
        self, root: Path, *, step: Callable[[files.Written], None] = files.unwatched
    ) -> None:
        self.root = root
        self._step = step

    def numbers(self) -> list[int]:
        """Numbers of the complete versions, ascending; half-written ones have other names."""
        if not self.root.is_dir():
            return []
        names = [p.name for p in self.root.iterdir() if p.name.isdecimal()]
        return sorted(int(name) for name in names if name == f"{int(name):06d}")

    def open(self, number: int) -> Version:
        """Find one version.

        Raises
        ------
        VersionMissing
            If it is not there.
        VersionCorrupt
            If its head is not what was written.
        """
        path = self.root / f"{number:06d}"
        if not path.is_dir():
            raise VersionMissing(
                f"{path}: there is no version {number}; there are {self.numbers()}"
            )
        meta = files.read_meta(path)
        try:
            snapshot = int(str(meta["snapshot"]))
        except (KeyError, TypeError, ValueError) as error:
            raise VersionCorrupt(f"{path} names no snapshot that it learned from") from error
        return Version(number, snapshot, path, meta)

    def newest(
        self,
        upto_snapshot: int | None = None,
        *,
        numbering: int | None = None,
        without: Collection[int] = (),
    ) -> Version | None:
        """The newest version of those that will do.

        Parameters
        ----------
        upto_snapshot : int, optional
            Only what learned from this snapshot or an earlier one.
        numbering : int, optional
            Only what numbers users, items and edges as such a state does.
        without : numbers of versions that will not do
        """
        for number in reversed(self.numbers()):
            if number in without:
                continue
            version = self.open(number)
            if (upto_snapshot is None or version.snapshot <= upto_snapshot) and (
                numbering is None or version.numbering == numbering
            ):
                return version
        return None

    def snapshots(self) -> set[int]:
        """Numbers of the snapshots that versions learned from: with them they can be made again."""
        return {self.open(number).snapshot for number in self.numbers()}

    def write(
        self,
        state: ModelState,
        item_ids: tuple[str, ...],
        snapshot: int,
        meta: Mapping[str, object],
    ) -> Version:
        """Write the next version: whole under another name first, then renamed."""
        number = (self.numbers() or [0])[-1] + 1
        path = self.root / f"{number:06d}"
        self.root.mkdir(parents=True, exist_ok=True)
        own = {**meta, "snapshot": snapshot, "version": number}
        files.save(state, path, item_ids=item_ids, meta=own, step=self._step)
        return self.open(number)

    def prune(self, harmful: Collection[int] = (), kept: int = KEPT) -> None:
        """Remove all but the newest versions, and the newest of those that do no harm."""
        numbers = self.numbers()
        harmless = [number for number in numbers if number not in harmful]
        for number in sorted(set(numbers).difference(numbers[-kept:], harmless[-kept:])):
            path = self.root / f"{number:06d}"
            if path.is_symlink():  # what it leads to is not ours
                path.unlink()
            else:
                shutil.rmtree(path)
