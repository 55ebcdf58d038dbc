"""One process writes to a state: a lock that ends with it, however it ends."""

import fcntl
from io import TextIOWrapper
from pathlib import Path

from stream.errors import StoreInUse


class WriterLock:
    """The right to write below a folder.

    Parameters
    ----------
    path : Path
        Of the lock file; its folder is there when it is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: TextIOWrapper | None = None

    def take(self) -> None:
        """Be the one who writes, until `give_back`; idempotent.

        Raises
        ------
        StoreInUse
            If another process is.
        """
        if self._held is not None:
            return
        lock = self._path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreInUse(
                f"{self._path}: another process writes snapshots here; stop it, or use another "
                "folder"
            ) from error
        self._held = lock

    def give_back(self) -> None:
        """Let others write; idempotent."""
        if self._held is not None:
            self._held.close()
            self._held = None
