"""A disk that keeps, at a power cut, only what was forced to it.

A kill leaves the page cache, so it cannot tell whether anything was forced to the disk. This notes
what was, and then takes the rest away: the content of files never synced, and names given by a
rename whose folder was not synced after it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest


class PowerCut(BaseException):
    """It is dark."""


@dataclass
class Rename:
    source: Path
    target: Path
    before: bytes | None  # content of the target that was there
    synced: bool = False


@dataclass
class Disk:
    """What was forced below a folder.

    Parameters
    ----------
    last : int
        The power is cut when so many syncs and renames were done and another is asked for.
    """

    root: Path
    last: int = 1 << 30
    done: int = 0
    synced: dict[int, bytes] = field(default_factory=dict)  # inode -> content at its last sync
    renames: list[Rename] = field(default_factory=list)

    @contextmanager
    def watching(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Note every sync and rename of this process; what is there already is on the disk."""
        for path in self._files():
            self.synced[path.stat().st_ino] = path.read_bytes()
        renamed, replaced = Path.rename, Path.replace
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", self._sync(os.fsync))
            patch.setattr(os, "fdatasync", self._sync(os.fdatasync))
            patch.setattr(Path, "rename", lambda a, b: self._rename(a, Path(b), renamed))
            patch.setattr(Path, "replace", lambda a, b: self._rename(a, Path(b), replaced))
            yield

    def cut(self) -> None:
        """Take away what was not forced."""
        for rename in reversed([r for r in self.renames if not r.synced]):
            if rename.target.is_dir():
                rename.target.rename(rename.source)
                continue
            rename.target.unlink(missing_ok=True)
            if rename.before is not None:
                rename.target.write_bytes(rename.before)
                self.synced[rename.target.stat().st_ino] = rename.before
        for path in self._files():
            path.write_bytes(self.synced.get(path.stat().st_ino, b""))

    def _another(self) -> None:
        if self.done == self.last:
            raise PowerCut
        self.done += 1

    def _files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]

    def _sync(self, real: object) -> object:
        def sync(handle: int) -> None:
            self._another()
            real(handle)  # type: ignore[operator]
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path.is_dir():
                for rename in self.renames:
                    rename.synced |= rename.target.parent == path
            else:
                self.synced[os.fstat(handle).st_ino] = path.read_bytes()

        return sync

    def _rename(self, source: Path, target: Path, real: object) -> Path:
        self._another()
        before = target.read_bytes() if target.is_file() else None
        self.renames.append(Rename(source, target, before))
        return real(source, target)  # type: ignore[operator,no-any-return]
