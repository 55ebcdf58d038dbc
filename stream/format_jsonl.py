"""Files that hold messages as they are on the wire, one a line."""

from collections.abc import Sequence
from pathlib import Path

from stream.lines import suffix
from stream.locate import find, relative
from stream.parts import LinesPart, Part
from stream.rows import JSON_SUFFIXES


class JsonLines:
    """Format ``jsonl``: messages go to the codec byte for byte, in the order of the file."""

    def parts(self, path: Path) -> Sequence[Part]:
        """One part a file, by name."""
        files = find(path, "jsonl", lambda file: suffix(file) in JSON_SUFFIXES, JSON_SUFFIXES)
        return [LinesPart(relative(file, path), file) for file in files]
