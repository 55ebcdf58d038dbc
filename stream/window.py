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

from stream.batch import Partition

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
class _Block:
    ids: list[str] = field(default_factory=list[str])
    numbers: "array[int]" = field(default_factory=lambda: array("q"))


class IdWindow:
    """Ids that every coming id is compared with: one table over all blocks.

    Parameters
    ----------
    size, block : int
        As of `Lanes`.
    numbered : bool
        Whether each id has a number; it is 0 otherwise.
    """

    def __init__(self, size: int, block: int, *, numbered: bool = True) -> None:
        self._numbered = numbered
        self.lanes: Lanes[_Block] = Lanes(size, block, _Block)
        self.values: dict[str, int] = {}
        self.renamed: set[tuple[Partition, int]] = set()  # blocks changed since the last snapshot

    def add(self, partition: Partition, ids: Sequence[str], numbers: Sequence[int] = ()) -> None:
        """Remember new ids in the partition's open block; none of them may be known."""
        self._put(self.lanes.open(partition), ids, numbers)

    def passed(self, partition: Partition, n: int) -> None:
        """Count ``n`` rows of a span, and forget what has become too old by them."""
        for block in self.lanes.passed(partition, n):
            for name in block.ids:
                self.values.pop(name, None)

    def hide(self, rename: Rename) -> None:
        """Know some ids by other names from here on, each in its place."""
        for partition in self.lanes.rows():
            for number, block in self.lanes.blocks(partition).items():
                if names := rename(block.ids):
                    self.renamed.add((partition, number))
                    block.ids[:] = [names.get(name, name) for name in block.ids]
                    for name in names.keys() & self.values.keys():
                        self.values[names[name]] = self.values.pop(name)

    def ids(self) -> Iterator[Sequence[str]]:
        """All ids, a block at a time."""
        return (block.ids for block in self.lanes.newest_first())

    def sizes(self, partition: Partition) -> dict[int, int]:
        """Ids of each block; none is ever taken from one."""
        return {number: len(b.ids) for number, b in self.lanes.blocks(partition).items()}

    def since(self, partition: Partition, number: int, start: int) -> tuple[list[str], list[int]]:
        """Ids of a block from the ``start``-th on, and their numbers where they have any."""
        block = self.lanes.blocks(partition)[number]
        return block.ids[start:], block.numbers[start:].tolist()

    def restore(
        self, partition: Partition, number: int, ids: Sequence[str], numbers: Sequence[int]
    ) -> None:
        """Put back what a block held when it was saved."""
        self._put(self.lanes.at(partition, number), ids, numbers)

    def _put(self, block: _Block, ids: Sequence[str], numbers: Sequence[int]) -> None:
        block.ids.extend(ids)
        if self._numbered:
            self.values.update(zip(ids, numbers, strict=True))
            block.numbers.extend(numbers)
        else:
            self.values.update(dict.fromkeys(ids, 0))  # merged without hashing or pairs


class IdTable:
    """Ids that are seldom looked up: a table a block, cheap to add to and to forget.

    Parameters
    ----------
    size, block : int
        As of `Lanes`.
    """

    def __init__(self, size: int, block: int) -> None:
        self.lanes: Lanes[dict[str, int]] = Lanes(size, block, dict[str, int])
        self.renamed: set[tuple[Partition, int]] = set()

    def get(self, name: str) -> int | None:
        """The number of an id, None if it is not known; the newest of several."""
        for block in self.lanes.newest_first():
            if name in block:
                return block[name]
        return None

    def add(self, partition: Partition, ids: Sequence[str], numbers: Iterable[int]) -> None:
        """Remember ids in the partition's open block."""
        self.lanes.open(partition).update(zip(ids, numbers, strict=True))

    def passed(self, partition: Partition, n: int) -> None:
        """Count ``n`` rows of a span, and forget what has become too old by them."""
        self.lanes.passed(partition, n)

    def hide(self, rename: Rename) -> None:
        """As `IdWindow.hide`."""
        for partition in self.lanes.rows():
            for number, block in self.lanes.blocks(partition).items():
                if names := rename(list(block)):
                    self.renamed.add((partition, number))
                    held = {names.get(name, name): at for name, at in block.items()}
                    block.clear()
                    block.update(held)

    def ids(self) -> Iterator[Sequence[str]]:
        """As `IdWindow.ids`."""
        return (list(block) for block in self.lanes.newest_first())

    def sizes(self, partition: Partition) -> dict[int, int]:
        """As `IdWindow.sizes`."""
        return {number: len(b) for number, b in self.lanes.blocks(partition).items()}

    def since(self, partition: Partition, number: int, start: int) -> tuple[list[str], list[int]]:
        """As `IdWindow.since`."""
        block = self.lanes.blocks(partition)[number]
        return list(islice(block, start, None)), list(islice(block.values(), start, None))

    def restore(
        self, partition: Partition, number: int, ids: Sequence[str], numbers: Sequence[int]
    ) -> None:
        """As `IdWindow.restore`."""
        self.lanes.at(partition, number).update(zip(ids, numbers, strict=True))
