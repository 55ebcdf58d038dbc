"""What members must know of items whose events are another's: a file beside the model versions.

A member sees the events of its own partitions. Whoever sees all of them (`goat ingest`) places new
items among their like and knows which are removed; both go into users' vectors. It says so here,
whole each time something has changed. What members have taken over is in their own snapshots; so a
file that is lost or damaged is only waited for until the next.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from consumers.live import LiveModel
from consumers.logs import log
from stream.clock import Clock
from stream.graph import Graph
from stream.segments import replace_file, sync_folder

FILE = "items"
"""Its name in the folder of partitions."""
EVERY_US = 1_000_000
_DIGEST = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """Items that stand beside their like under one model version.

    Attributes
    ----------
    names : n ids
    vectors : float32[n, d]
    """

    names: Sequence[str]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class News:
    """All that there is to say.

    Attributes
    ----------
    placed : model version -> Placed
        Of the version in use, and of the one that is coming.
    removed : item -> event times of its last announcement and its last removal
        Of every item that was ever removed.
    """

    placed: Mapping[int, Placed] = field(default_factory=dict[int, Placed])
    removed: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    def told(self, live: LiveModel) -> None:
        """Have a member's model go by it; users are written anew with their next event."""
        graph = live.graph
        for number, (announced_us, removed_us) in zip(
            graph.items.intern(list(self.removed)).tolist(), self.removed.values(), strict=True
        ):
            graph.catalog.follow(number, announced_us=announced_us, removed_us=removed_us)
        placed = self.placed.get(live.version)
        if placed is not None:
            live.given(graph.items.intern(list(placed.names)), placed.vectors)


class NewsWriter:
    """Keeps the file up to date; the one who sees all events does.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    clock : Clock
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock = folder / FILE, clock
        self._digest = ""
        self._looked_us = -EVERY_US

    def note(self, models: Sequence[LiveModel]) -> None:
        """Write what these models and their graph say, if it is another than a second ago."""
        now_us = self._clock.now_us()
        if now_us - self._looked_us < EVERY_US:
            return
        self._looked_us = now_us
        content = _content(models)
        if (digest := sha256(content).hexdigest()) != self._digest:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, digest.encode() + content)
            sync_folder(self._path.parent)
            self._digest = digest


class NewsReader:
    """Reads the file when it is another than before.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._seen: tuple[int, int] = (0, 0)
        self.last = News()

    def look(self) -> bool:
        """Whether there is something new, in ``last`` from now on."""
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_ino) == self._seen:
                return False
            content = self._path.read_bytes()
        except FileNotFoundError:
            return False
        self._seen = stat.st_mtime_ns, stat.st_ino
        found = _parsed(content)
        if found is None:
            log.warning("not what was written: waiting for the next", path=str(self._path))
            return False
        self.last = found
        return True


def _content(models: Sequence[LiveModel]) -> bytes:
    names: dict[str, list[str]] = {}
    arrays: dict[str, NDArray[np.float32]] = {}
    for model in models:
        if model.ready:
            placed = model.placed().astype(np.int32)
            names[str(model.version)] = [model.graph.items.name(n) for n in placed.tolist()]
            arrays[str(model.version)] = model.learned_vectors(placed)
    removed = _removed(models[0].graph) if models else {}
    head = json.dumps({"placed": names, "removed": removed}, ensure_ascii=False)
    return bytes(save_tensors(arrays, metadata={"items": head}))


def _removed(graph: Graph) -> dict[str, tuple[int, int]]:
    return {
        graph.items.name(number): (record.announced_us, record.removed_us)
        for number, record in graph.catalog.items.items()
        if record.removed_us >= 0
    }


def _parsed(content: bytes) -> News | None:
    digest, body = content[:_DIGEST], content[_DIGEST:]
    if sha256(body).hexdigest().encode() != digest:
        return None
    try:
        size = int.from_bytes(body[:8], "little")
        head = cast(dict[str, Any], json.loads(body[8 : 8 + size])["__metadata__"])
        told = cast(dict[str, Any], json.loads(head["items"]))
        arrays = load_tensors(body)
        placed = {int(n): Placed(ids, arrays[n]) for n, ids in told["placed"].items()}
        removed = {str(name): (int(a), int(r)) for name, (a, r) in told["removed"].items()}
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return News(placed, removed)
