"""Guards taken away on purpose, to see that tests notice: a plugin of pytest, and of the nursery.

``GOAT_REMOVED=fsync pytest -p tests.faults.removals …`` runs tests without that guard.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from consumers import edge_index, qdrant_index
from consumers.cell import Cell
from consumers.frontier import Frontier
from consumers.gone import Departed
from consumers.homes import Home
from consumers.joint import Joint
from consumers.lanes import Lane, Lanes
from consumers.mandate import Mandate
from consumers.publisher import Publisher
from stream import segments, snapshot
from stream.batch import Partition
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.window import IdWindow

GROUP = (
    "tests/faults/test_group.py::"
    "test_whoever_keeps_a_partition_nothing_is_lost_doubled_or_goes_back"
)
CRASHES = "tests/faults/test_crashes.py::test_a_kill_at_any_mark_changes_nothing"
CATCHING_UP = (
    "tests/faults/test_crashes.py::test_a_kill_while_it_catches_up_leaves_nobody_behind[30]"
)
POWER = "tests/faults/test_power.py::test_what_was_written_survives_a_power_cut"
ANY_MOMENT = (
    "tests/faults/test_power.py::"
    "test_a_power_cut_at_any_moment_leaves_the_old_snapshot_or_the_new_one"
)
HIGHER = (
    "tests/consumers/test_index_contract.py::TestEdgeIndex::"
    "test_only_a_higher_sequence_replaces[5-False]"
)
STORM = "tests/system/test_storm.py::test_nothing_goes_back_and_nobody_rises_from_the_dead"


def fence() -> None:
    """Writes of an older sequence replace newer ones."""
    edge_index.fence = lambda sequence: None  # type: ignore[assignment,return-value]


def servers_fence() -> None:
    """The same on a server."""
    qdrant_index.fence = lambda sequence: None  # type: ignore[assignment,return-value]


def generation() -> None:
    """A publisher that was superseded writes on."""
    Mandate.check = lambda self: self._record.refresh()  # type: ignore[method-assign]


def frontier() -> None:
    """After a restart vectors are written before the stream is where readers are."""
    Frontier.reached = lambda self, positions: True  # type: ignore[method-assign]


def fsync() -> None:
    """Snapshots are renamed into place without being forced to the disk."""

    def renamed(path: Path, content: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)

    segments.replace_file = snapshot.replace_file = renamed  # type: ignore[attr-defined]


def rename() -> None:
    """Files are written under their own names at once."""

    def in_place(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    segments.replace_file = snapshot.replace_file = in_place  # type: ignore[attr-defined]


def dedup() -> None:
    """No event id is remembered."""
    IdWindow.add = lambda self, *_: None  # type: ignore[method-assign]


def offset() -> None:
    """Positions are kept beside the snapshot, as a consumer group would keep them."""
    commit, load = SnapshotStore.commit, SnapshotStore.load

    def commit_then_offsets(self: SnapshotStore, state: State, **more: Any) -> Any:
        info = commit(self, state, **more)
        body = [f"{p.topic} {p.number} {at}" for p, at in state.positions.items()]
        (info.path.parent.parent / "offsets").write_text("\n".join(body))
        return info

    def load_and_offsets(self: SnapshotStore, *config: Any) -> State | None:
        state = load(self, *config)
        if state is not None:
            state.positions.clear()
            kept = self._folder.parent / "offsets"
            for line in kept.read_text().splitlines() if kept.exists() else []:
                topic, number, at = line.split()
                state.positions[Partition(topic, int(number))] = int(at)
        return state

    SnapshotStore.commit = commit_then_offsets  # type: ignore[method-assign]
    SnapshotStore.load = load_and_offsets  # type: ignore[method-assign]


def inherited() -> None:
    """Who takes a partition over does not ask how far readers have seen it."""
    Home.frontier = lambda self, before: {}  # type: ignore[method-assign]


def lane() -> None:
    """Who takes a partition over writes with the generation that is there."""
    claim = Lanes.claim

    def claimed(self: Lanes, partition: Partition) -> Lane:
        made = claim(self, partition)
        made._mandate.generation = 1
        return made

    Lanes.claim = claimed  # type: ignore[method-assign]


def folders() -> None:
    """All writers of a partition share a folder."""
    Home.at = lambda self, generation: self._folder / "1"  # type: ignore[method-assign]


def filled() -> None:
    """A version goes live without waiting for members."""
    Joint.waits_for = lambda self: None  # type: ignore[method-assign]


def beside() -> None:
    """A version that is coming is not kept up to date once it is filled."""
    Cell._refresh_coming = lambda self, coming: True  # type: ignore[method-assign]


def again() -> None:
    """Readers return to a version that members have not brought up to date."""
    Publisher.begin_again = lambda self, version: None  # type: ignore[method-assign]


def gone() -> None:
    """Nobody remembers after a restart who has still to be buried."""
    Departed.restore = lambda self, said: None  # type: ignore[method-assign]


NOTICED: Final[Mapping[Callable[[], None], str]] = {
    fence: HIGHER,
    servers_fence: STORM,
    generation: "tests/consumers/test_publisher_recovery.py::test_an_older_publisher_must_stop",
    frontier: CATCHING_UP,
    fsync: f"{POWER}[snapshot]",
    rename: ANY_MOMENT,
    gone: "tests/faults/test_crashes.py::test_who_is_gone_while_it_catches_up_is_buried",
    dedup: f"{CRASHES}[Step.STOPPED-0]",
    offset: f"{CRASHES}[Step.ANNOUNCED-0]",
    inherited: f"{GROUP}[0]",
    lane: f"{GROUP}[0]",
    folders: f"{GROUP}[0]",
    filled: f"{GROUP}[0]",
    beside: f"{GROUP}[0]",
    again: f"{GROUP}[0]",
}
"""Each guard, and a test that fails without it."""

if (removed := os.environ.get("GOAT_REMOVED")) is not None:
    {guard.__name__: guard for guard in NOTICED}[removed]()
