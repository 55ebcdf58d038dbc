"""Whether a state still holds a user: every file read, decoded where it has a form, and compared.

Names of items and campaigns are not compared: an item may be called like the user.
"""

import errno
import gzip
import json
import mmap
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from consumers.index import Space, VectorIndex
from consumers.needle import Needle, Span
from stream.lookup import Lookup

NAMES: Final = "graph: name of the user"
SEEN: Final = "seen event ids"
JOINS: Final = "pending joins"
SNAPSHOTS: Final = "other segments"
MODELS: Final = "model versions and replay memory"
PROFILES: Final = "profiles and features"
LETTERS: Final = "dead letters"
SERVED: Final = "lists served, audit"
DRIFT: Final = "drift state and alerts"
REQUESTS: Final = "requests left for other programs"
INDEX: Final = "files of the embedded index"
OTHER: Final = "other files"
PLACES: Final = (
    NAMES, SEEN, JOINS, SNAPSHOTS, MODELS, PROFILES, LETTERS, SERVED, DRIFT, REQUESTS, INDEX, OTHER,
)  # fmt: skip

_BY_FOLDER: Final = {
    "graph": SNAPSHOTS,
    "models": MODELS,
    "language": PROFILES,
    "features": PROFILES,
    "dead_letters.jsonl": LETTERS,
    "served.jsonl": SERVED,
    "audit.jsonl": SERVED,
    "alerts.jsonl": DRIFT,
    "drift": DRIFT,
    "retrain": REQUESTS,
    "finetune": REQUESTS,
    "rollback": REQUESTS,
    "frozen.json": REQUESTS,
    "index": INDEX,
}
_WINDOWS: Final = {"seen": SEEN, "pending": JOINS, "ahead": JOINS, "waiting": JOINS}
_OF_ITEMS: Final = ("items", "catalog", "campaigns", "caps", "spend", "traffic")
_ITEM_FILES: Final = ("items.json",)
_WITHIN: Final = b"-_.:/@+"  # in the index ids stand alone: user-1-b is somebody else


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a user was found: a place of `PLACES`, a file in the state, how often."""

    place: str
    where: str
    rows: int


@dataclass(slots=True)
class Search:
    """What a search has looked at, and what it has found.

    Attributes
    ----------
    snapshots : int
        Kept snapshots that name a file in which the user was found.
    """

    hits: list[Hit] = field(default_factory=list[Hit])
    snapshots: int = 0
    files: int = 0
    bytes: int = 0
    points: int = 0

    def rows(self) -> Counter[str]:
        """How often the user was found, by place."""
        found: Counter[str] = Counter()
        for hit in self.hits:
            found[hit.place] += hit.rows
        return found


def find(state: Path, user: str) -> Search:
    """Search all files under a state folder for a user's id.

    Parameters
    ----------
    state : Path
        Others may be writing in it: a file that goes meanwhile is not looked at.
    """
    needle, found = Needle(user), Search()
    kept = Lookup(state / "graph")
    logs = kept.logs()
    for path in sorted(state.rglob("*")):
        try:
            if not path.is_file() or path.stat().st_size == 0:
                continue
            place, rows = _look(path, state, needle, logs)
            found.bytes += path.stat().st_size
        except FileNotFoundError:
            continue
        found.files += 1
        if rows:
            found.hits.append(Hit(place, path.relative_to(state).as_posix(), rows))
    bad = {Path(hit.where).name for hit in found.hits}
    found.snapshots = sum(not bad.isdisjoint(one.files) for one in kept.manifests)
    return found


def find_points(index: VectorIndex, users: Sequence[str], user: str, found: Search) -> int:
    """Search collections of users, tombstones included; how many points name this one or are its.

    Parameters
    ----------
    users : names of collections
    found : where what was looked at is counted
    """
    rows = 0
    for collection in users:
        names = list(index.ids(collection))
        own = index.fetch(collection, Space.USERS, [user])[0] is not None
        rows += max(names.count(user), int(own))
        found.points += len(names)
    return rows


def _look(path: Path, state: Path, needle: Needle, logs: dict[str, str]) -> tuple[str, int]:
    """The place that a file belongs to, and how often it holds the user."""
    place = _BY_FOLDER.get(path.relative_to(state).parts[0], OTHER)
    if path.suffix == ".arrow":
        log = logs.get(path.name, "")
        kind = log.partition("/")[0]
        place = NAMES if kind == "users" else _WINDOWS.get(kind, place)
        return place, 0 if kind in _OF_ITEMS else _in_arrow(path, needle, kind)
    if path.name in _ITEM_FILES:
        return place, 0
    if path.suffix in (".json", ".jsonl"):
        return place, in_json(path, needle, letters=place == LETTERS)
    return place, _in_binary(path, needle, _WITHIN if place == INDEX else b"")


def _in_arrow(path: Path, needle: Needle, log: str) -> int:
    try:
        table = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
    except pa.ArrowInvalid:
        return _in_binary(path, needle)
    field_of = {"users": "user"} | dict.fromkeys(_WINDOWS, "event_id")
    rows = 0
    for name in table.column_names:
        values = table[name]
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            known = field_of.get(log, str(name))
            texts = (text for text in values.to_pylist() if text and needle.user in text)
            rows += sum(needle.in_field(known, text) for text in texts)
    return rows


def in_json(path: Path, needle: Needle, *, letters: bool = False) -> int:
    """How often a file of JSON, or of lines of JSON, holds the user."""
    content = path.read_bytes()
    try:
        return needle.count(json.loads(content)) if not letters else _in_lines(content, needle)
    except (ValueError, RecursionError):
        return _in_lines(content, needle)


def _in_lines(content: bytes, needle: Needle) -> int:
    rows = 0
    for line in content.splitlines():
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError):
            rows += needle.in_text(line.decode("utf-8", "replace"))
            continue
        letter = isinstance(value, dict) and "reason" in value and "offset" in value
        rows += needle.in_letter(value) if letter else needle.count(value)
    return rows


def _in_binary(path: Path, needle: Needle, within: bytes = b"") -> int:
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) as raw:
        if raw[:2] == b"\x1f\x8b":
            return needle.in_bytes(gzip.decompress(raw[:]))
        if raw[:16] == b"SQLite format 3\x00":
            return sum(needle.in_text(text) for text in _texts_of(path))
        return needle.in_bytes(raw, within, written(file.fileno()))


def written(descriptor: int) -> list[Span]:
    """Where in an open file something was ever written, and a page around it.

    An embedded index claims files of 32 MB for a few points. Holes read as zeros, which no id
    holds; one in UTF-16 may reach into a hole by a byte, hence the page.
    """
    size = os.fstat(descriptor).st_size
    if not hasattr(os, "SEEK_DATA"):
        return [(0, size)]
    spans: list[Span] = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole up to the end, or an end that somebody has just cut off
        start, stop = max(0, begin - mmap.PAGESIZE), min(size, at + mmap.PAGESIZE)
        if spans and start <= spans[-1][1]:
            start, _ = spans.pop()
        spans.append((start, stop))
    return spans


def _texts_of(path: Path) -> Iterator[str]:
    """All texts of all tables of a SQLite file."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            quoted = str(table).replace('"', '""')
            for row in base.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - a name, quoted
                yield from (str(value) for value in row if isinstance(value, str | bytes))
