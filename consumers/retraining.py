"""Requests to learn everything anew: files in the state folder, each answered by one version.

Whoever watches a stream (`goat finetune --anew`, a monitor of drift) leaves a request; the next
fine-tune learns from all events instead of the new ones, and names the request in its version.
Only then is the file removed. A crash in between leaves both, and the next fine-tune, seeing that
a version has answered, removes the file and does not learn anew again.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumers.errors import SettingsError
from stream.segments import replace_file, sync_folder

ROLLBACKS = "rollback"
"""Folder, in the state, of requests to return to an earlier version."""
WANTED = "finetune"
"""Folder, in the state, of requests to fine-tune now."""
FROZEN = "frozen.json"
"""File, in the state, for as long as no new version is to be served."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request: its name, and why."""

    name: str
    reason: str


class Requests:
    """The folder of requests.

    Parameters
    ----------
    root : Path
        Made when needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def ask(self, name: str, reason: str) -> None:
        """Leave a request, durably; one of this name that is there already stays as it is.

        Parameters
        ----------
        name : str
            What is asked for once, with the version that gave rise to it, such as ``drift-17``: a
            request of the same name is the same request, and one answered is not answered again.

        Raises
        ------
        SettingsError
            The name would not do as that of a file.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"request {name[:80]!r}: name it with at most 64 of a-z, 0-9, dot and hyphen"
            )
        path = self._path(name)
        if path.exists():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps({"reason": reason}).encode())
        sync_folder(self.root)

    def waiting(self) -> list[Request]:
        """Requests not yet removed, by name; one that cannot be read is a request all the same."""
        return [Request(path.stem, _reason(path)) for path in sorted(self.root.glob("*.json"))]

    def remove(self, names: Collection[str]) -> None:
        """Forget requests that a version has answered; idempotent."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.root / f"{name}.json"


def _reason(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["reason"])
    except (ValueError, KeyError, TypeError):
        return "reason not readable"


def frozen(state: Path) -> str | None:
    """Why no new version is to be served; None where any may be."""
    path = state / FROZEN
    return _reason(path) if path.exists() else None


def answered(metas: Sequence[Mapping[str, object]]) -> set[str]:
    """Names of the requests that versions of this meta have answered."""
    names: set[str] = set()
    for meta in metas:
        told = meta.get("requests")
        if isinstance(told, dict):
            names.update(map(str, told))
    return names


def due(
    requests: Sequence[Request], since_anew: int, retrain_every: int | None
) -> tuple[bool, str | None]:
    """Whether to learn all anew, and why: by request, or for so many fine-tunes since the last."""
    if requests:
        return True, "; ".join(f"{one.name}: {one.reason}" for one in requests)
    if retrain_every is not None and since_anew >= retrain_every:
        return True, f"every {retrain_every} fine-tunes"
    return False, None
