"""A state in memory, opened as a snapshot of it would be."""

from pathlib import Path

from stream.snapshot import OpenedView, SnapshotInfo
from stream.state import State


def opened_view(state: State) -> OpenedView:
    """What somebody who learns needs of a state that was not saved."""
    graph = state.graph
    info = SnapshotInfo(
        number=0,
        path=Path(),
        sha256="",
        created_us=0,
        positions=dict(state.positions),
        edges=graph.edges.next,
    )
    return OpenedView(
        info=info,
        view=graph.view(),
        users=graph.users,
        items=graph.items,
        catalog=graph.catalog,
        extra={},
        arrays={},
        numbering=state.numbering,
    )
