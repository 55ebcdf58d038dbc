"""The programs behind `goat manifest`: what the record says, for a person or as JSON."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from rich.console import Console

from consumers.chronicle import entries, read, shown
from consumers.report import write_json
from consumers.settings import Settings
from stream.clock import SystemClock
from stream.state import JSON

STDOUT = Path("-")


def listing(settings: Settings, *, json_file: Path | None = None) -> int:
    """Every version, a line each, the oldest first."""
    found = [one.brief() for one in entries(read(settings.manifest, SystemClock()))]
    if json_file is not None:
        tell({"versions": cast(JSON, found)}, json_file)
    else:
        say([_line(one) for one in found])
    return 0


def show(settings: Settings, version: int, *, json_file: Path | None = None) -> int:
    """All of one version; exit code 1 if something that it names has been altered."""
    found = shown(settings, version, SystemClock())
    tell(found, json_file or STDOUT)
    return 0 if found["ok"] else 1


def why(settings: Settings, item: str, *, json_file: Path | None = None) -> int:
    """Where an item's stored vector comes from."""
    from consumers import origins

    tell(origins.why(settings, item, SystemClock()), json_file or STDOUT)
    return 0


def tell(values: Mapping[str, JSON], json_file: Path) -> None:
    """Write JSON to a file, or to the standard output."""
    if json_file == STDOUT:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        write_json(json_file, values)


def say(lines: list[str]) -> None:
    """Print lines as they are."""
    console = Console()
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _line(one: Mapping[str, JSON]) -> str:
    gates = cast(Mapping[str, JSON] | None, one["gates"])
    offsets = cast(Mapping[str, JSON], one["offsets"])
    passed = (
        "no gates"
        if gates is None
        else f"{gates['items']} items, {gates['users']} users, overlap {gates['overlap']}"
    )
    return "  ".join(
        [
            f"{one['version']:>4}",
            str(one["at"])[:19] + "Z",
            f"{one['status']}{', withdrawn' if one['withdrawn'] else ''}".ljust(11),
            f"snapshot {one['snapshot'] or '?'}",
            f"model {str(one['model_hash'])[:12] or '?'}",
            f"after {one['parent'] or 'none'}",
            " ".join(f"{partition}@{at}" for partition, at in offsets.items()) or "no offsets",
            passed,
        ]
    )
