"""Heads of versions that an erasure has rewritten, as the manifest tells of them."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from consumers.manifest import Line, Manifest
from consumers.manifest_steps import Origin, Rewritten, Trained
from stream.clock import Clock

HEAD: Final = "version.json"
"""Name of the file that holds the hashes of a version's others, and what was said of it."""


def tell_rewriting(path: Path, clock: Clock, version: int, sha256: str) -> None:
    """Put on record what a head will be, before it is; once, however often it is tried.

    Nothing where nothing was ever recorded: no line says what the version was.

    Raises
    ------
    ManifestCorrupt
        A line has been altered.
    PublishError
        It could not be written.
    """
    if not path.exists():
        return
    line = Rewritten(model=str(version), head=sha256)
    with closing(Manifest(path, clock)) as manifest, manifest.exclusive():
        if line not in [one.body for one in manifest.lines]:
            manifest.append(line)


def on_record(lines: Sequence[Line]) -> set[str]:
    """SHA-256 of every head that belongs to a version on record."""
    heads, models = set[str](), set[str]()
    for line in lines:
        if isinstance(line.body, Trained):
            heads.add(line.body.origin.hash)
            models.add(line.body.origin.model)
        elif isinstance(line.body, Rewritten) and line.body.model in models:
            heads.add(line.body.head)
    return heads


def rewritten(origin: Origin, line: Rewritten) -> Origin:
    """The same version under its new head."""
    return origin.model_copy(update={"files": {**origin.files, HEAD: line.head}})
