"""Event ids remembered for a while: by count, a partition at a time, in bounded memory.

Forgetting must not depend on how a stream was cut into batches. So the clock of a window is the
number of its partition's rows (events kept), and forgetting happens in whole blocks at fixed
counts: `Lanes.spans` cuts a batch there, and within a span nothing is forgotten.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.arrow import Column, pc, texts
from stream.batch import Partition
from stream.frozen_ids import FrozenIds

B = TypeVar("B")
Rename = Callable[[Sequence[str]], Mapping[str, str]]
"""Of some ids: those that get another name, and which."""


@dataclass(slots=True)
class _Lane(Generic[B]):
    """One partition's rows so far, and each block that is still remembered."""

    rows: int = 0
    blocks: dict[int, B] = field(default_factory=dict[int, B])


class Lanes(Generic[B]):
    """Blocks of rows by partition: filled one after another, dropped one after another.

    Parameters
    ----------
    size : int
        Rows of its partition for which a row is surely kept, rounded up to whole blocks;
        ``block`` more, and it is surely dropped.
    block : int
        Rows that are dropped together.
    new : makes an empty block
    """

    def __init__(self, size: int, block: int, new: Callable[[], B]) -> None:
        if size < 1 or block < 1:
            raise ValueError(f"size and block are at least 1: got {size} and {block}")
        self.block = block
        self._new = new
        self._kept = -(-size // block) + 1
        self._lanes: dict[Partition, _Lane[B]] = {}

    def room(self, partition: Partition) -> int:
        """Rows until the open block of a partition ends: at least 1."""
        return self.block - self._lane(partition).rows % self.block

    def spans(self, partition: Partition, n: int) -> Iterator[tuple[int, int]]:
        """Cut ``n`` coming rows where a block ends; call `passed` after each piece."""
        start = 0
        while start < n:
            stop = min(n, start + self.room(partition))
            yield start, stop
            start = stop

    def open(self, partition: Partition) -> B:
        """The block that coming rows belong to."""
        return self.at(partition, self._lane(partition).rows // self.block)

    def at(self, partition: Partition, number: int) -> B:
        """A block by its number, made when needed."""
        blocks = self._lane(partition).blocks
        if number not in blocks:
            blocks[number] = self._new()
        return blocks[number]

    def passed(self, partition: Partition, n: int) -> list[B]:
        """Count ``n`` rows of a span; the blocks that have become too old by them."""
        lane = self._lane(partition)
        lane.rows += n
        if lane.rows % self.block:
            return []
        oldest = lane.rows // self.block - self._kept
        return [lane.blocks.pop(b) for b in list(lane.blocks) if b <= oldest]

    def rows(self) -> dict[Partition, int]:
        """Rows counted so far, by partition."""
        return {p: lane.rows for p, lane in self._lanes.items()}

    def restore(self, partition: Partition, rows: int) -> None:
        """Set a partition's row count."""
        self._lane(partition).rows = rows

    def blocks(self, partition: Partition) -> dict[int, B]:
        """A partition's blocks by number, oldest first."""
        return self._lane(partition).blocks

    def newest_first(self) -> Iterator[B]:
        """All blocks, each partition's newest first."""
        for lane in self._lanes.values():
            yield from reversed(lane.blocks.values())

    def _lane(self, partition: Partition) -> _Lane[B]:
        return self._lanes.setdefault(partition, _Lane[B]())


@dataclass(frozen=True, slots=True)
class Stored:
    """Ids of a block as they lie in a segment, in the order in which they were added.

    Attributes
    ----------
    ids : column of n large strings
    numbers : int64[n], or None where they have none
    """

    partition: Partition
    block: int
    ids: Column
    numbers: NDArray[np.int64] | None = None


@dataclass(slots=True)
class _Block:
    ids: list[str] = field(default_factory=list[str])
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    stored: list[tuple[int, Stored]] = field(default_factory=list[tuple[int, Stored]])

    def __len__(self) -> int:
        return _rows(self.stored) + len(self.ids)


class IdWindow:
    """Ids that every coming id is compared with: one table over all blocks.

    Parameters
    ----------
    size, block : int
        As of `Lanes`.
    numbered : bool
        Whether each id has a number.
    """

    def __init__(self, size: int, block: int, *, numbered: bool = True) -> None:
        self._numbered = numbered
        self._frozen = Frozen()
        self.lanes: Lanes[_Block] = Lanes(size, block, _Block)
        self.values: dict[str, int] = {}  # where ids have no numbers, without those of a snapshot
        self.renamed: set[tuple[Partition, int]] = set()  # blocks changed since the last snapshot

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are remembered."""
        found = self.values.keys() & ids
        if self._frozen.ids is not None:
            found.update(name for name, _, _ in self._frozen.ids.find(ids))
        return found

    def add(self, partition: Partition, ids: Sequence[str], numbers: Sequence[int] = ()) -> None:
        """Remember new ids in the partition's open block; none of them may be known."""
        self._put(self.lanes.open(partition), ids, numbers)

    def passed(self, partition: Partition, n: int) -> None:
        """Count ``n`` rows of a span, and forget what has become too old by them."""
        for block in self.lanes.passed(partition, n):
            for name in block.ids:
                self.values.pop(name, None)
            self._frozen.forget(block.stored)

    def hide(self, rename: Rename) -> None:
        """Know some ids by other names from here on, each in its place."""
        for partition in self.lanes.rows():
            for number, block in self.lanes.blocks(partition).items():
                if block.stored and rename(_since(block.stored, 0)[0]):
                    self._thaw(block)
                if names := rename(block.ids):
                    self.renamed.add((partition, number))
                    block.ids[:] = [names.get(name, name) for name in block.ids]
                    for name in names.keys() & self.values.keys():
                        self.values[names[name]] = self.values.pop(name)

    def _thaw(self, block: _Block) -> None:
        """Hold what a snapshot held of a block like what came since."""
        ids, _ = _since(block.stored, 0)
        block.ids[:0] = ids
        self.values.update(dict.fromkeys(ids, 0))
        self._frozen.forget(block.stored)
        block.stored = []

    def beginning(self, mark: str) -> Iterator[str]:
        """All ids that begin so."""
        for block in self.lanes.newest_first():
            yield from _beginning(block.stored, block.ids, mark)

    def sizes(self, partition: Partition) -> dict[int, int]:
        """Ids of each block; none is ever taken from one."""
        return {number: len(b) for number, b in self.lanes.blocks(partition).items()}

    def since(self, partition: Partition, number: int, start: int) -> tuple[list[str], list[int]]:
        """Ids of a block from the ``start``-th on, and their numbers where they have any."""
        block = self.lanes.blocks(partition)[number]
        ids, _ = _since(block.stored, start)
        rest = max(0, start - _rows(block.stored))
        return ids + block.ids[rest:], block.numbers[rest:].tolist()

    def restore(self, stored: Sequence[Stored]) -> None:
        """Put back what blocks held when they were saved, in an empty window."""
        if self._numbered:
            for one in stored:
                numbers = [] if one.numbers is None else one.numbers.tolist()
                self._put(self.lanes.at(one.partition, one.block), texts(one.ids), numbers)
            return
        self._frozen = Frozen(stored)
        for place, one in enumerate(stored):
            self.lanes.at(one.partition, one.block).stored.append((place, one))

    def _put(self, block: _Block, ids: Sequence[str], numbers: Sequence[int]) -> None:
        block.ids.extend(ids)
        if self._numbered:
            self.values.update(zip(ids, numbers, strict=True))
            block.numbers.extend(numbers)
        else:
            self.values.update(dict.fromkeys(ids, 0))  # merged without hashing or pairs


@dataclass(slots=True)
class _Table:
    ids: dict[str, int] = field(default_factory=dict[str, int])
    stored: list[tuple[int, Stored]] = field(default_factory=list[tuple[int, Stored]])
    recalled: dict[str, int] = field(default_factory=dict[str, int])  # of the stored ones


class IdTable:
    """Ids that are seldom looked up: a table a block, cheap to add to and to forget.

    Parameters
    ----------
    size, block : int
        As of `Lanes`.
    """

    def __init__(self, size: int, block: int) -> None:
        self.lanes: Lanes[_Table] = Lanes(size, block, _Table)
        self._frozen = Frozen()
        self._recalled: set[str] = set()
        self.renamed: set[tuple[Partition, int]] = set()

    def recall(self, names: Iterable[str]) -> None:
        """Look these up among what a snapshot held, all at once: `get` is then quick for them."""
        if self._frozen.ids is None:
            return
        wanted = [name for name in names if name]
        self._recalled = set(wanted)
        for block in self.lanes.newest_first():
            block.recalled.clear()
        for name, place, row in self._frozen.ids.find(wanted):
            one = self._frozen.stored[place]
            if one.numbers is not None:
                table = self.lanes.at(one.partition, one.block)
                table.recalled[name] = int(one.numbers[row])

    def get(self, name: str) -> int | None:
        """The number of an id, None if it is not known; the newest of several."""
        if self._frozen.ids is not None and name not in self._recalled:
            self.recall([name])
        for block in self.lanes.newest_first():
            if name in block.ids:
                return block.ids[name]
            if name in block.recalled:
                return block.recalled[name]
        return None

    def add(self, partition: Partition, ids: Sequence[str], numbers: Iterable[int]) -> None:
        """Remember ids in the partition's open block."""
        self.lanes.open(partition).ids.update(zip(ids, numbers, strict=True))

    def passed(self, partition: Partition, n: int) -> None:
        """Count ``n`` rows of a span, and forget what has become too old by them."""
        for block in self.lanes.passed(partition, n):
            self._frozen.forget(block.stored)

    def hide(self, rename: Rename) -> None:
        """As `IdWindow.hide`."""
        for partition in self.lanes.rows():
            for number, block in self.lanes.blocks(partition).items():
                if block.stored and rename(_since(block.stored, 0)[0]):
                    self._thaw(block)
                if names := rename(list(block.ids)):
                    self.renamed.add((partition, number))
                    block.ids = {names.get(name, name): at for name, at in block.ids.items()}

    def _thaw(self, block: _Table) -> None:
        ids, numbers = _since(block.stored, 0)
        block.ids = dict(zip(ids, numbers, strict=True)) | block.ids
        self._frozen.forget(block.stored)
        block.stored = []
        block.recalled.clear()

    def beginning(self, mark: str) -> Iterator[str]:
        """As `IdWindow.beginning`."""
        for block in self.lanes.newest_first():
            yield from _beginning(block.stored, block.ids, mark)

    def sizes(self, partition: Partition) -> dict[int, int]:
        """As `IdWindow.sizes`."""
        blocks = self.lanes.blocks(partition).items()
        return {number: _rows(b.stored) + len(b.ids) for number, b in blocks}

    def since(self, partition: Partition, number: int, start: int) -> tuple[list[str], list[int]]:
        """As `IdWindow.since`."""
        block = self.lanes.blocks(partition)[number]
        ids, numbers = _since(block.stored, start)
        # from the end: what was written before need not be passed over
        new = len(block.ids) - max(0, start - _rows(block.stored))
        ids += list(islice(reversed(block.ids), new))[::-1]
        numbers += list(islice(reversed(block.ids.values()), new))[::-1]
        return ids, numbers

    def restore(self, stored: Sequence[Stored]) -> None:
        """As `IdWindow.restore`."""
        self._frozen = Frozen(stored)
        for place, one in enumerate(stored):
            self.lanes.at(one.partition, one.block).stored.append((place, one))


class Frozen:
    """What a snapshot held of a window, as long as any of it is remembered."""

    def __init__(self, stored: Sequence[Stored] = ()) -> None:
        self.stored = stored
        some = any(len(one.ids) for one in stored)
        self.ids = FrozenIds([one.ids for one in stored]) if some else None

    def forget(self, stored: Iterable[tuple[int, Stored]]) -> None:
        """These are remembered no more."""
        for place, _ in stored:
            if self.ids is not None and not self.ids.forget(place):
                self.ids, self.stored = None, ()


def _rows(stored: Iterable[tuple[int, Stored]]) -> int:
    return sum(len(one.ids) for _, one in stored)


def _beginning(
    stored: Iterable[tuple[int, Stored]], ids: Iterable[str], mark: str
) -> Iterator[str]:
    for _, one in stored:
        yield from texts(one.ids.filter(pc.starts_with(one.ids, mark)))
    yield from (name for name in ids if name.startswith(mark))


def _since(stored: Iterable[tuple[int, Stored]], start: int) -> tuple[list[str], list[int]]:
    """Ids and numbers from the ``start``-th on."""
    ids: list[str] = []
    numbers: list[int] = []
    for _, one in stored:
        if start < len(one.ids):
            ids += texts(one.ids[start:])
            numbers += [] if one.numbers is None else one.numbers[start:].tolist()
        start = max(0, start - len(one.ids))
    return ids, numbers
