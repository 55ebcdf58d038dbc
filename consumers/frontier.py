"""How far the stream was when vectors were last written, so that none goes back after a crash.

Vectors are written within seconds, snapshots every few; what was applied between the last snapshot
and a crash is applied again. A user's vector as of an offset in between would be newer by its
sequence than what readers have, and older by its events. So the offsets are put on the disk before
anything made from them is written, and after a restart nothing is written until they are reached.

The file is two halves, written in turn and each with a checksum: a half that a crash leaves
unfinished is of vectors that were not written yet.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from consumers.errors import PublishError
from consumers.logs import log
from stream.batch import Partition
from stream.segments import replace_file, sync_folder

HALF = 4_096
CATCH_UP_S = 300.0  # to where readers are, after a restart


class Frontier:
    """The offsets up to which readers may have seen effects.

    Parameters
    ----------
    path : Path
        Of the file; its folder is there.

    Attributes
    ----------
    ahead : partition -> offset
        Where the stream must come to again; empty once it has.

    Raises
    ------
    PublishError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[Partition, int] = {}
        self._turn = self._place = 0  # of the newest half: its number, and which it is
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        except OSError as error:
            raise PublishError(f"{path}: cannot be read: {error}") from error
        self._half = max(HALF, len(content) // 2)
        for place, half in enumerate((content[: self._half], content[self._half :])):
            found = _parse(half)
            if found is not None and found[0] > self._turn:
                (self._turn, self._written), self._place = found, place
        self.ahead: Mapping[Partition, int] = dict(self._written)

    def reached(self, positions: Mapping[Partition, int]) -> bool:
        """Whether the stream is where it was again; if so, its place now is what must be reached.

        What is made from ``positions`` may be written once this has answered yes.

        Parameters
        ----------
        positions : partition -> next offset

        Raises
        ------
        PublishError
            If the place cannot be put on the disk.
        """
        if self.ahead:
            self.ahead = {p: at for p, at in self.ahead.items() if positions.get(p, 0) < at}
            if self.ahead:
                return False
        if any(self._written.get(p, -1) < at for p, at in positions.items()):
            self._write({**self._written, **positions})
        return True

    def caught_up(
        self, positions: Mapping[Partition, int], lag: Mapping[Partition, int], waited_s: float
    ) -> bool:
        """As `reached`, but for what is not worth waiting for.

        A partition of which nothing is left to read has been made shorter, or is not ours any more
        and says nothing; the latter must not hold up the others for ever.

        Parameters
        ----------
        lag : messages left to read, where that is known
        waited_s : float
            Since the start.

        Raises
        ------
        As `reached`.
        """
        if self.reached(positions):
            return True
        ended, late = {p for p in self.ahead if lag.get(p) == 0}, waited_s > CATCH_UP_S
        if ended or late:
            log.warning("not waited for", partitions=sorted(map(str, self.ahead)), late=late)
            self.let_go(set(self.ahead) if late else ended)
        return self.reached(positions)

    def inherit(self, positions: Mapping[Partition, int]) -> None:
        """Begin where readers have seen effects of another's writes.

        Raises
        ------
        PublishError
            If that cannot be put on the disk.
        """
        self._write({**self._written, **positions})
        self.ahead = dict(self._written)

    def let_go(self, partitions: set[Partition]) -> None:
        """Do not wait for these any more: nothing of theirs is left to read."""
        self.ahead = {p: at for p, at in self.ahead.items() if p not in partitions}

    def close(self) -> None:
        """Give the file back; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, positions: dict[Partition, int]) -> None:
        turn = self._turn + 1
        body = json.dumps([turn, [[p.topic, p.number, at] for p, at in positions.items()]]).encode()
        line = b"%08x %b" % (zlib.crc32(body), body)
        try:
            if len(line) > self._half:
                self._grow(2 * len(line))
            place = 1 - self._place
            os.pwrite(self._file, line.ljust(self._half), self._half * place)
            os.fdatasync(self._file)
        except OSError as error:
            raise PublishError(f"{self._path}: cannot be written: {error}") from error
        self._turn, self._written, self._place = turn, positions, place

    def _grow(self, half: int) -> None:
        """Go on in a file of longer halves that says the same, in the first of them."""
        kept = os.pread(self._file, self._half, self._half * self._place)
        replace_file(self._path, kept.ljust(half) + b" " * half)
        sync_folder(self._path.parent)
        os.close(self._file)
        self._file, self._half, self._place = os.open(self._path, os.O_RDWR), half, 0


def read_frontier(path: Path) -> Mapping[Partition, int]:
    """The offsets that a file tells, which its writer may still be writing; none without one.

    Raises
    ------
    PublishError
        If it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PublishError(f"{path}: cannot be read: {error}") from error
    half = max(HALF, len(content) // 2)
    found = [one for one in map(_parse, (content[:half], content[half:])) if one is not None]
    return max(found, key=lambda one: one[0])[1] if found else {}


def _parse(half: bytes) -> tuple[int, dict[Partition, int]] | None:
    """What a half says, if it is whole."""
    told, _, body = half.rstrip(b" ").partition(b" ")
    try:
        if int(told, 16) != zlib.crc32(body):
            return None
        turn, rows = cast(tuple[int, list[list[Any]]], json.loads(body))
        return turn, {Partition(topic, number): at for topic, number, at in rows}
    except (ValueError, TypeError):
        return None
