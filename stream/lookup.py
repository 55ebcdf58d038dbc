"""Looking into the snapshots that are kept, file by file, without restoring any."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from stream import manifest as manifests
from stream.errors import SnapshotCorrupt
from stream.ledger_table import CAPS
from stream.manifest import Manifest
from stream.segments import Segments, Table


class Lookup:
    """The snapshots of a folder as they are now.

    Parameters
    ----------
    root : Path
        As of `stream.snapshot.SnapshotStore`. Somebody else may be writing there: what is gone by
        the time it is asked for is left out.
    """

    def __init__(self, root: Path) -> None:
        self._segments = Segments(root / "segments")
        self.manifests: list[Manifest] = []  # the newest last
        for path in sorted((root / "snapshots").glob("*.json")):
            try:
                self.manifests.append(manifests.read(path))
            except SnapshotCorrupt:
                continue  # gone meanwhile, or damaged: its segments are nobody's

    @property
    def oldest(self) -> int:
        """Number of the oldest snapshot kept; 0 without any."""
        return self.manifests[0].number if self.manifests else 0

    def logs(self) -> dict[str, str]:
        """Name of each segment file -> the log that it belongs to."""
        return {
            piece.file: log
            for manifest in self.manifests
            for log, pieces in manifest.logs.items()
            for piece in pieces
        }

    def remembers(self, event_ids: Collection[str]) -> int:
        """Number of the oldest kept snapshot that remembers all of these events; 0 if none does."""
        number = 0
        for manifest in reversed(self.manifests):
            found: set[str] = set()
            for table in self._tables(manifest, "seen/"):
                found.update(set(table["id"].to_pylist()).intersection(event_ids))
            if len(found) < len(set(event_ids)):
                break
            number = manifest.number
        return number

    def capped(self, user: int) -> int:
        """Impressions of capped campaigns that the newest snapshot has of this number of a user."""
        newest = self.manifests[-1:]
        tables = (table for manifest in newest for table in self._tables(manifest, CAPS))
        return sum(int(np.count_nonzero(table["user"].to_numpy() == user)) for table in tables)

    def _tables(self, manifest: Manifest, log: str) -> Iterator[Table]:
        for name, pieces in manifest.logs.items():
            if name.startswith(log):
                for piece in pieces:
                    try:
                        yield self._segments.read(piece)
                    except SnapshotCorrupt:
                        continue
