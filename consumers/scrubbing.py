"""Taking a user out of the files of a state that no snapshot and no index holds.

Each file is replaced as a whole, so that a crash leaves the old one or the new one; only what
another process may have open to append to is changed in place, line by line and of the same length.
"""

import json
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from consumers import drift_state
from consumers.finding import in_json
from consumers.heads import HEAD
from consumers.needle import Needle
from consumers.profiles import Profiles
from model import version
from stream.errors import StoreInUse
from stream.features import keep_only, text_key
from stream.segments import replace_file, sync_folder

KEPT: Final = ("topic", "partition", "offset", "reason", "bytes")
"""What stays of a dead letter."""
CHAINED: Final = "manifest.jsonl"
"""Each line holds the hash of the one before: none can be changed."""
NOTE: Final = {"erased": True}
_SEALS: Final[dict[str, Callable[[Any], bytes]]] = {
    "state.json": drift_state.resealed,
    HEAD: version.sealed,
}
"""How what has a checksum is written."""
_BY_ITSELF: Final = ("graph", "index", "language", "receipts")  # what other parts see to


def _nobody(_: int, __: str) -> None:
    pass


def scrub(state: Path, user: str, tell: Callable[[int, str], None] = _nobody) -> list[str]:
    """Take a user out of all files but snapshots and vectors; what could not be done, and why.

    Parameters
    ----------
    state : Path
        The state folder. Who writes dead letters into it must not be running.
    tell : callable
        Told of each version whose head is about to be rewritten, with the SHA-256 of the new one.
    """
    needle, left = Needle(user), list[str]()
    left += _profiles(state, user)
    for path in _files(state):
        if path.suffix == ".tmp":
            if in_json(path, needle):
                path.unlink(missing_ok=True)  # left by a crash
        elif path.name == "dead_letters.jsonl":
            _replace_lines(path, lambda line: _letter(line, needle))
        elif path.name == "served.jsonl":
            _overwrite_lines(path, needle)
        elif path.suffix == ".jsonl" and path.name != CHAINED:
            _replace_lines(path, lambda line: _line(line, needle))
        elif path.suffix == ".json" and path.name != "items.json":
            _replace_whole(path, needle, tell)
    return left


def _files(state: Path) -> Iterator[Path]:
    for path in sorted(state.rglob("*.json*")):
        if path.relative_to(state).parts[0] not in _BY_ITSELF and path.is_file():
            yield path


def _profiles(state: Path, user: str) -> list[str]:
    """Forget profiles, then the vectors of texts that nobody's profile has any more."""
    path = state / "language" / "profiles.jsonl"
    if not path.exists():
        return []
    texts = Profiles(path, mend=False).forget(user)
    left: list[str] = []
    for folder in sorted((state / "features").glob("profiles-*")):
        try:
            keep_only(folder, {text_key(text) for text in texts})
        except StoreInUse as error:
            left.append(f"{error}: end `goat enrich`, and erase again")
    return left


def _replace_lines(path: Path, change: Callable[[bytes], bytes]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = [change(line) for line in lines]
    if changed != lines:
        replace_file(path, b"".join(changed))
        sync_folder(path.parent)


def _letter(line: bytes, needle: Needle) -> bytes:
    """A dead letter without its message, where that holds the user."""
    try:
        letter: dict[str, Any] = json.loads(line)
    except ValueError:
        return line if not needle.in_text(line.decode("utf-8", "replace")) else b""
    if not needle.in_letter(letter):
        return line
    return json.dumps({k: letter[k] for k in KEPT if k in letter} | NOTE).encode() + b"\n"


def _line(line: bytes, needle: Needle) -> bytes:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    if not needle.count(value):
        return line
    return json.dumps(needle.without(value)).encode() + b"\n"


def _overwrite_lines(path: Path, needle: Needle) -> None:
    """A server may be appending to this file: its lines keep their places."""
    at = 0
    with path.open("r+b") as file:
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # being written just now
            if _line(line, needle) != line:
                note = json.dumps(NOTE).encode()
                file.seek(at)
                file.write(note.ljust(len(line) - 1)[: len(line) - 1])
            at += len(line)
        file.flush()
        os.fsync(file.fileno())


def _replace_whole(path: Path, needle: Needle, tell: Callable[[int, str], None]) -> None:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError):
        return  # a request that was answered meanwhile
    if needle.count(value):
        seal = _SEALS.get(path.name, lambda whole: json.dumps(whole).encode())
        content = seal(needle.without(value))
        if path.name == HEAD and path.parent.name.isdecimal():  # not of a draft
            tell(int(path.parent.name), sha256(content).hexdigest())
        replace_file(path, content)
        sync_folder(path.parent)
