"""The program behind `goat rebuild` and `goat replay --at`."""

import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers.chronicle import Entry, entry, read
from consumers.errors import VersionMissing
from consumers.index import Space
from consumers.inputs import Inputs
from consumers.ledger_verbs import say, tell
from consumers.point_check import Compared, compare_points
from consumers.rebuilding import Rebuilder, Rebuilt, config_of
from consumers.settings import Settings
from consumers.versions import Version, Versions
from model import version as files
from model.sameness import digest, first_difference
from stream.clock import SystemClock
from stream.state import JSON


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a version that was made again was compared with, and the first difference or None."""

    compared: str
    difference: str | None


def rebuild(
    settings: Settings,
    number: int,
    inputs: Inputs,
    *,
    from_events: bool = False,
    to: Path | None = None,
    json_file: Path | None = None,
) -> int:
    """Make a version again and compare it, bit for bit; 0 where it is equal, 1 where it is not."""
    clock = SystemClock()
    lines = read(settings.manifest, clock)
    found = entry(lines, number, settings.manifest)
    rebuilder = Rebuilder(settings, lines, inputs, clock, from_events=from_events)
    rebuilt = rebuilder.rebuild(number)
    verdict = _verdict(settings, found, rebuilt)
    config = config_of(found.origin, number)
    with _on_disk(found, rebuilt) as version:
        if to is not None:
            shutil.copytree(version.path, to)
        points = compare_points(settings, version, config, lines, clock)
    ok = verdict.difference is None and (
        isinstance(points, str) or all(one.ok for one in points.values())
    )
    figures: dict[str, JSON] = {
        "version": number,
        "equal": ok,
        "made_from": rebuilt.how,
        "compared": verdict.compared,
        "difference": verdict.difference,
        "points": points
        if isinstance(points, str)
        else {space.value: one.to_json() for space, one in points.items()},
        "circumstances_that_differ": _other(found.origin.made_with, rebuilt.made_with),
    }
    if json_file is not None:
        tell(figures, json_file)
    else:
        say(_lines(number, rebuilt, verdict, points, figures))
    return 0 if ok else 1


def _verdict(settings: Settings, found: Entry, rebuilt: Rebuilt) -> Verdict:
    try:
        version = Versions(settings.models_dir).open(found.number)
    except VersionMissing:
        expected = found.origin.files.get("state.safetensors")
        got = digest(rebuilt.state)
        differs = None if got == expected else f"SHA-256 is {got}, the manifest says {expected}"
        return Verdict("SHA-256 of all tensors with the manifest's: the version is pruned", differs)
    stored = files.load(version.path)
    difference = first_difference(rebuilt.state, stored.state)
    if difference is None and rebuilt.item_ids != stored.item_ids:
        difference = "items.json: the items or their order"
    count = len(files.tensors(stored.state))
    return Verdict(f"{count} tensors and the items' ids with {version.path}", difference)


@contextmanager
def _on_disk(found: Entry, rebuilt: Rebuilt) -> Generator[Version]:
    """What was made, as a version in a folder that is gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{found.number:06d}"
        snapshot = int(found.origin.snapshot)
        meta = {"snapshot": snapshot, "version": found.number}
        files.save(rebuilt.state, path, item_ids=rebuilt.item_ids, meta=meta)
        yield Version(found.number, snapshot, path, meta)


def _other(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, JSON]:
    return {k: f"then {then.get(k)}, now {v}" for k, v in now.items() if then.get(k) != v}


def _lines(
    number: int,
    rebuilt: Rebuilt,
    verdict: Verdict,
    points: dict[Space, Compared] | str,
    figures: Mapping[str, JSON],
) -> list[str]:
    said = "equal" if verdict.difference is None else f"differs: {verdict.difference}"
    lines = [
        f"version {number}, made again from {rebuilt.how}",
        f"{verdict.compared}: {said}",
    ]
    if isinstance(points, str):
        lines.append(points)
    else:
        for space, one in points.items():
            moved = f", {one.moved} moved since they were written" if one.moved else ""
            first = "" if one.first is None else f"; first that differs: {one.first}"
            lines.append(f"{space} in the index: {one.equal} of {one.points} equal{moved}{first}")
    if other := figures["circumstances_that_differ"]:
        lines.append(f"made in other circumstances: {other}")
    return lines
