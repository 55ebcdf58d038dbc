"""Where what the local servers are made of is kept, and proof that it is what was asked for."""

import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "GOAT_CACHE"


def cache_dir() -> Path:
    """Return the folder of downloads: ``$GOAT_CACHE``, the clone's own, or the user's."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).resolve()
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").exists():
        return root / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "goatstream"


def digest(path: Path, algorithm: str) -> bytes:
    """Hash a file, e.g. by ``"sha256"``."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).digest()


@contextmanager
def one_at_a_time(lock: Path) -> Generator[None]:
    """Keep other processes out of a folder of downloads while this one fills it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
