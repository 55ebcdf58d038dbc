"""Finding the files that a format reads, and saying what is wrong when there are none."""

from collections.abc import Callable, Sequence
from pathlib import Path

from stream.errors import FormatError, SourceError


def find(
    path: Path, name: str, fits: Callable[[Path], bool], expected: Sequence[str]
) -> list[Path]:
    """Files to read, by name: the one that was named, or those of a folder that fit.

    Raises
    ------
    SourceError
        If there is nothing at the path, or it may not be read.
    FormatError
        If a folder holds no file of the format.
    """
    if is_file(path):
        return [path]
    found = sorted(file for file in listing(path) if fits(file))
    if not found:
        raise FormatError(
            f"{path}: no file of format {name} in this folder (looked for {', '.join(expected)}). "
            "Name the file itself, or another --format"
        )
    return found


def is_file(path: Path) -> bool:
    """Whether the path is a file (rather than a folder).

    Raises
    ------
    SourceError
        If it is neither.
    """
    if path.is_file():
        return True
    if path.is_dir():
        return False
    there = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise SourceError(f"{path}: {there}. Check the path; the working folder is {Path.cwd()}")


def listing(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden.

    Raises
    ------
    SourceError
        If it may not be read.
    """
    try:
        entries = sorted(folder.rglob("*"))
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error}") from error
    return [
        file
        for file in entries
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    ]


def relative(file: Path, path: Path) -> str:
    """Name of a file's partition: relative to the folder that was named."""
    return file.name if file == path else file.relative_to(path).as_posix()
