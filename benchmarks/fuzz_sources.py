"""Damaged files of events through the file source and the codec, for `benchmarks/fuzz.py`."""

import json
import random
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from fuzz_files import FileMutator
from fuzz_messages import Mutator
from fuzz_stream import batch_of

from stream.arrow import pa
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.errors import StreamError
from stream.file_source import FileSource
from stream.formats import Format, open_format

NOW_US = 1_795_392_000_000_000
ROWS = 12
COLUMNS = {"user": "u", "item": "i", "time": "t"}
Read = list[tuple[str, int, bytes]]


@dataclass
class SourceTally:
    """What became of the damaged files of events."""

    sources: int = 0
    source_refused: int = 0
    source_messages: int = 0
    source_crashes: int = 0
    source_silent: int = 0
    shown: int = 0

    def say(self, what: str, name: str, detail: str) -> None:
        """Show the first findings in full."""
        self.shown += 1
        if self.shown <= 10:
            print(f"{what}: {name}: {detail}"[:1_800], file=sys.stderr, flush=True)


class SourceFuzz:
    """Writes a damaged file, reads it in two ways, and decodes what comes.

    Parameters
    ----------
    rng : random.Random
    root : Path
        An empty folder, in memory if possible.
    """

    def __init__(self, rng: random.Random, root: Path) -> None:
        self.tally = SourceTally()
        self._rng = rng
        self._root = root
        self._mutator = FileMutator(rng)
        self._codec = Codec(Limits(), ManualClock(NOW_US))
        events = [m for m in Mutator(random.Random(3)).messages(60) if b"\n" not in m][:ROWS]
        plain = [{"u": f"u{n}", "i": f"i{n % 3}", "t": 1_790_000_000 + n} for n in range(ROWS)]
        header, *lines = ["u,i,t", *(f"u{n},i{n % 3},{1_790_000_000 + n}" for n in range(ROWS))]
        self._files = {
            "jsonl/a.jsonl": b"\n".join(events) + b"\n",
            "table/a.csv": "\n".join([header, *lines, ""]).encode(),
            "table/b.jsonl": "".join(json.dumps(row) + "\n" for row in plain).encode(),
            "parquet/a.parquet": b"",
            "table/c.parquet": b"",
        }
        for name in ("parquet/a.parquet", "table/c.parquet"):
            self._files[name] = _parquet(self._root / "made.parquet", name)

    def run(self, n: int) -> SourceTally:
        """Damage ``n`` files."""
        names = list(self._files)
        for turn in range(n):
            self.one(names[turn % len(names)])
        return self.tally

    def one(self, name: str) -> None:
        """Damage one file and read it."""
        content = self._mutator.mutated(name, self._files)
        path = self._root / Path(name).name
        kind = name.split("/", maxsplit=1)[0]
        fmt = open_format(kind, COLUMNS if kind == "table" else None)
        self.tally.sources += 1
        try:
            path.write_bytes(content or b"")
            found = _read(path, fmt, [1_000])
            if found != _read(path, fmt, [self._rng.randint(1, 5)]):
                self._fault(name, "other batches, other messages", content)
            if kind == "jsonl" and [m for _, _, m in found] != _lines(content or b""):
                self._fault(name, "a line lost, or made up", content)
            self._decode([message for _, _, message in found])
        except StreamError:
            self.tally.source_refused += 1
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            self.tally.source_crashes += 1
            self.tally.say("crash", name, f"{content!r:.500} {traceback.format_exc()[-900:]}")
        finally:
            path.unlink(missing_ok=True)

    def _decode(self, messages: Sequence[bytes]) -> None:
        decoded = self._codec.decode(batch_of(messages))
        self.tally.source_messages += len(messages)
        if len(decoded.events) + len(decoded.rejects) != len(messages):
            self._fault("codec", "lost", repr(messages).encode())

    def _fault(self, name: str, what: str, content: bytes | None) -> None:
        self.tally.source_silent += 1
        self.tally.say(what, name, repr(content))


def _read(path: Path, fmt: Format, sizes: Sequence[int]) -> Read:
    source = FileSource([path], fmt)
    found: Read = []
    try:
        while not source.exhausted:
            for batch in source.poll(sizes[0], 0.0):
                offsets = batch.offsets.tolist()
                found += [
                    (batch.partition.topic, offset, value)
                    for offset, value in zip(offsets, batch.values, strict=True)
                ]
    finally:
        source.close()
    return found


def _lines(content: bytes) -> list[bytes]:
    """Lines of a file that are not blank, without what ends them."""
    return [line for line in (raw.removesuffix(b"\r") for raw in content.split(b"\n")) if line]


def _parquet(path: Path, name: str) -> bytes:
    """A small Parquet file: of events, or of a table of interactions."""
    users = [f"u{n}" for n in range(ROWS)]
    items = [f"i{n % 3}" for n in range(ROWS)]
    times = np.arange(ROWS) + 1_790_000_000
    if name.startswith("table"):
        table = pa.table({"u": users, "i": items, "t": times})
    else:
        at = [f"2026-11-20T00:00:{n:02}Z" for n in range(ROWS)]
        table = pa.table(
            {"type": ["click"] * ROWS, "user_id": users, "item_id": items, "occurred_at": at}
        )
    pq.write_table(table, path)
    return path.read_bytes()
