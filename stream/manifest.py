"""One JSON file a snapshot: which segments it is made of, and all that is small."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stream.batch import Partition
from stream.errors import SnapshotCorrupt, SnapshotForeign
from stream.segments import Logs, Piece, read_plain
from stream.state import JSON

FORMAT = 3
READABLE = (1, 2, 3)
"""1 knew no spend, caps and traffic: they begin where such a snapshot was taken. Of 2 some lack
``leaps``, ``begun``, ``numbering`` and ``excised``, and all lack ``topics``; a program that knew no
``excised`` would take in again what was left out."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot says of itself.

    Attributes
    ----------
    number : int
        Snapshots of a store are numbered upwards.
    created_us : int
        Wall time it was written, microseconds since the epoch.
    positions : partition -> next offset to read
    state : the small parts of the state, as `stream.restore` wants them
    logs : log -> its segment files
    sha256 : str
        Checksum of all of the above.
    """

    number: int
    created_us: int
    positions: Mapping[Partition, int]
    state: Mapping[str, Any]
    extra: Mapping[str, JSON]
    logs: Logs
    sha256: str = ""

    @property
    def files(self) -> set[str]:
        """Names of all its segment files."""
        return {p.file for pieces in self.logs.values() for p in pieces}


def to_bytes(manifest: Manifest) -> tuple[bytes, str]:
    """As the content of a file, and its checksum.

    Raises
    ------
    ValueError, TypeError
        If ``extra`` is not plain JSON (NaN is not).
    """
    body = _canonical(
        {
            "number": manifest.number,
            "created_us": manifest.created_us,
            "positions": [[p.topic, p.number, at] for p, at in manifest.positions.items()],
            "state": manifest.state,
            "extra": manifest.extra,
            "logs": {log: [*map(_plain, pieces)] for log, pieces in manifest.logs.items()},
        }
    )
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"format":{FORMAT},"sha256":"{digest}","body":{body}}}\n'.encode(), digest


def read(path: Path) -> Manifest:
    """Read a manifest and check it.

    Raises
    ------
    SnapshotCorrupt
        If it is not what was written.
    SnapshotForeign
        If it is of another format version.
    """
    try:
        whole = cast(dict[str, Any], json.loads(read_plain(path)))
        version, body, told = whole["format"], whole["body"], whole["sha256"]
        found = hashlib.sha256(_canonical(body).encode()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SnapshotCorrupt(f"{path}: no snapshot manifest: {error!r}") from error
    if version not in READABLE:
        raise SnapshotForeign(
            f"{path}: format {version}, this program reads 1 to {FORMAT}; "
            "use the program that wrote it"
        )
    if found != told:
        raise SnapshotCorrupt(f"{path}: SHA-256 is {found}, expected {told}")
    if path.stem != str(body["number"]).zfill(len(path.stem)):
        raise SnapshotCorrupt(f"{path}: it is the manifest of snapshot {body['number']!r}")
    return Manifest(
        number=body["number"],
        created_us=body["created_us"],
        positions={Partition(topic, number): at for topic, number, at in body["positions"]},
        state=body["state"],
        extra=body["extra"],
        logs={log: tuple(Piece(**p) for p in pieces) for log, pieces in body["logs"].items()},
        sha256=told,
    )


def _plain(piece: Piece) -> dict[str, int | str]:
    """As JSON; `asdict` takes a hundred calls, and a large state has hundreds of pieces."""
    return {
        "chunk": piece.chunk,
        "start": piece.start,
        "rows": piece.rows,
        "file": piece.file,
        "sha256": piece.sha256,
    }


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
