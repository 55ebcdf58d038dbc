"""What the drift monitor remembers: two files in the state folder, there before an alert is sent.

``drift/state.json`` says where each series' windows end, what was told, and which alerts have yet
to reach whom; ``drift/texts.safetensors`` the texts that the alignment's reference had. Distances,
nulls and detectors are not in it: they follow from the graph's edges, the model version and these.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from consumers.alerts import Alert
from consumers.drift import DriftConfig, Monitor, Watched
from consumers.errors import DriftStateCorrupt
from consumers.rounds import Rounds
from consumers.scene import Watch
from consumers.series import Series
from stream.segments import replace_file, sync_folder
from stream.vocabulary import Vocabulary

KEPT = 200
"""Alerts that are remembered once they have reached everybody."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Series(_Frozen):
    watch: Watch
    segment: str
    begins: int
    ends: list[int]
    judged: int
    told: int
    since: int


class Posted(BaseModel):
    """An alert, and to whom it has yet to go.

    Attributes
    ----------
    alert : `Alert.to_json`
    waiting : names of the places that have not taken it
    posted_us : int
        Wall time.
    muted : bool
        It was found while its watch was muted, and goes nowhere.
    """

    model_config = ConfigDict(extra="forbid")

    alert: dict[str, Any]
    waiting: list[str]
    posted_us: int
    muted: bool = False


class _Saved(_Frozen):
    format: Literal[1, 2] = 2  # 1 had no checksum
    cut: tuple[int, int, int]
    version: int
    series: list[_Series]
    marks: list[tuple[int, dict[str, int]]]
    last_us: dict[Watch, int]
    posted: list[Posted]
    rounds: dict[str, list[int]] = Field(default_factory=dict[str, list[int]])
    rounds_version: int = 0
    texts: str = Field(description="SHA-256 of the file of texts")
    sha256: str = Field(default="", description="Of all the rest, as it is written")

    def digest(self) -> str:
        """What `sha256` must be."""
        rest = self.model_copy(update={"sha256": ""}).model_dump_json()
        return hashlib.sha256(rest.encode()).hexdigest()


class DriftState:
    """The monitor's folder.

    Parameters
    ----------
    root : Path
        Made when needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.posted: list[Posted] = []

    def load(self, config: DriftConfig) -> Monitor:
        """The monitor as it was saved, or a new one.

        Raises
        ------
        DriftStateCorrupt
            The files are not what was written, or were cut into other windows.
        """
        monitor, path = Monitor(config), self.root / "state.json"
        if not path.exists():
            return monitor
        try:
            saved = _Saved.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DriftStateCorrupt(f"{path}: {error}. Remove the folder to begin anew") from error
        if (saved.format > 1 or saved.sha256) and saved.sha256 != saved.digest():
            raise DriftStateCorrupt(f"{path}: fails its checksum. Remove the folder to begin anew")
        cut = config.cut
        if saved.cut != (cut.window, cut.reference, cut.null):
            raise DriftStateCorrupt(
                f"{path}: windows of {saved.cut} (rows, reference, null), not of"
                f" {(cut.window, cut.reference, cut.null)}: keep to those, or remove the folder"
            )
        monitor.version, monitor.marks = saved.version, list(saved.marks)
        monitor.last_us = dict(saved.last_us)
        monitor.rounds = Rounds({k: list(v) for k, v in saved.rounds.items()}, saved.rounds_version)
        for one in saved.series:
            series = Series(cut, list(one.ends), one.judged)
            monitor.watched[one.watch, one.segment] = Watched(
                series, one.begins, one.told, one.since
            )
        monitor.texts = self._texts(saved.texts)
        self.posted = list(saved.posted)
        return monitor

    def save(self, monitor: Monitor) -> None:
        """Write the monitor down: texts first, then what names them."""
        self.root.mkdir(parents=True, exist_ok=True)
        items = np.array(sorted(monitor.texts), np.int64)
        arrays: dict[str, NDArray[Any]] = {"item": items}
        if len(items):
            arrays["text"] = np.stack([monitor.texts[n] for n in items.tolist()])
        texts = save(arrays)
        digest = hashlib.sha256(texts).hexdigest()
        name = self.root / f"texts-{digest[:16]}.safetensors"
        if not name.exists():
            replace_file(name, texts)
        cut = monitor.config.cut
        done = [one for one in self.posted if not one.waiting]
        gone = {id(one) for one in done[:-KEPT]}
        self.posted = [one for one in self.posted if id(one) not in gone]
        saved = _Saved(
            cut=(cut.window, cut.reference, cut.null),
            version=monitor.version,
            series=[
                _Series(
                    watch=watch,
                    segment=segment,
                    begins=one.begins,
                    ends=one.series.ends,
                    judged=one.series.judged,
                    told=one.told,
                    since=one.since,
                )
                for (watch, segment), one in monitor.watched.items()
            ],
            marks=monitor.marks,
            last_us=monitor.last_us,
            posted=self.posted,
            rounds=monitor.rounds.history,
            rounds_version=monitor.rounds.version,
            texts=digest,
        )
        replace_file(self.root / "state.json", _sealed(saved))
        sync_folder(self.root)
        for old in self.root.glob("texts-*.safetensors"):
            if old != name:
                old.unlink()

    def forget(self, known: Vocabulary) -> None:
        """Leave out of the alerts of users the names of those who are known no more."""
        for one in self.posted:
            if one.alert.get("watch") == Watch.USERS:
                for mover in one.alert.get("movers", []):
                    mover["name"] = mover["name"] if mover["name"] in known else ""

    def post(self, alerts: list[Alert], places: list[str], muted: set[str], now_us: int) -> None:
        """Remember alerts to be sent; one of a name that is known is the same alert."""
        known = {one.alert["name"] for one in self.posted}
        for alert in alerts:
            if alert.name not in known:
                silent = alert.watch in muted
                to = [] if silent else list(places)
                self.posted.append(
                    Posted(alert=alert.to_json(), waiting=to, posted_us=now_us, muted=silent)
                )

    def _texts(self, digest: str) -> dict[int, Any]:
        path = self.root / f"texts-{digest[:16]}.safetensors"
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise DriftStateCorrupt(f"{path}: not what was written. Remove the folder")
            arrays = load(content)
        except (OSError, SafetensorError) as error:
            raise DriftStateCorrupt(f"{path}: {error}. Remove the folder to begin anew") from error
        items = arrays["item"].tolist()
        return {n: arrays["text"][at] for at, n in enumerate(items)}


def resealed(value: object) -> bytes:
    """A state as read from its JSON and changed since, as it is written; what is none stays so."""
    try:
        return _sealed(_Saved.model_validate(value))
    except ValidationError:
        return json.dumps(value).encode()


def _sealed(saved: _Saved) -> bytes:
    return saved.model_copy(update={"sha256": saved.digest()}).model_dump_json().encode()
