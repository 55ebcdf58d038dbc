"""Where the states of single partitions lie, so that each can go from member to member.

Below one root that all members share there is a folder for each partition, and in it one for each
generation of its writer (`consumers.lanes`). A member that was taken over from and does not know it
yet writes into its own folder, which nobody reads any more; so nobody needs to wait for it, and no
lock that it holds is in the way.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from consumers.errors import SettingsError
from consumers.frontier import read_frontier
from stream.batch import Partition
from stream.clock import Clock
from stream.errors import SnapshotCorrupt
from stream.ordering import OrderingConfig
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.view import GraphConfig

FOLDER = "partitions"
"""Of all of them, in the state folder."""
FRONTIER = "frontier"
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


class Home:
    """Where one partition's state lies.

    Parameters
    ----------
    root : Path
        The folder of all partitions.
    partition : Partition

    Raises
    ------
    SettingsError
        If the topic's name is not one that Kafka allows, and so perhaps a path.
    """

    def __init__(self, root: Path, partition: Partition) -> None:
        if not _TOPIC.fullmatch(partition.topic):
            raise SettingsError(f"topic {partition.topic[:80]!r}: not a name that Kafka allows")
        self._folder = root / f"{partition.topic}-{partition.number}"

    def at(self, generation: int) -> Path:
        """The folder of one generation."""
        return self._folder / f"{generation:010}"

    def state(
        self, before: int, clock: Clock, graph: GraphConfig, ordering: OrderingConfig
    ) -> State | None:
        """What the generations before one have left, the newest that is valid; None if nothing.

        Raises
        ------
        SnapshotCorrupt
            If there are snapshots, but none is valid.
        """
        damaged: list[str] = []
        for generation in reversed(self._before(before)):
            try:
                found = SnapshotStore(self.at(generation), clock).load(graph, ordering)
            except SnapshotCorrupt as error:
                damaged.append(str(error))
                continue
            if found is not None:
                return found
        if damaged:
            raise SnapshotCorrupt("\n".join(damaged))
        return None

    def frontier(self, before: int) -> Mapping[Partition, int]:
        """How far readers may have seen effects of the generations before one."""
        furthest: dict[Partition, int] = {}
        for generation in self._before(before):
            for partition, offset in read_frontier(self.at(generation) / FRONTIER).items():
                furthest[partition] = max(offset, furthest.get(partition, 0))
        return furthest

    def forget(self, before: int) -> None:
        """Delete what the generations before one have left.

        What one of them writes meanwhile may stay, and goes the next time.
        """
        for generation in self._before(before):
            shutil.rmtree(self.at(generation), ignore_errors=True)

    def _before(self, generation: int) -> list[int]:
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if path.name.isdecimal()]
        return sorted(n for n in map(int, names) if n < generation)


def partitions_in(root: Path) -> list[Path]:
    """The folders of all partitions of which something was kept."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir())


def refuse_members(state: Path, what: str) -> None:
    """Refuse what writes users, or makes them anew, where members keep them.

    Raises
    ------
    SettingsError
        If they do.
    """
    if partitions_in(state / FOLDER):
        raise SettingsError(
            f"{state / FOLDER}: members keep users there, who are not {what}'s to write. Give "
            "--members where that is a flag; or stop all members, remove the folder, and go on "
            "without them"
        )


def newest_in(folder: Path) -> Path:
    """Where a partition's state is kept now: the newest generation that has saved anything."""
    saved = [path.parent for path in folder.glob("*/snapshots") if any(path.glob("*.json"))]
    return max(saved, key=lambda path: int(path.name), default=folder)
