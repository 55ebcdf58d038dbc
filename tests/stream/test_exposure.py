"""What an impression counts for its position and propensity, from the event to the view."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.batch import Details, EventBatch, Kind, Partition
from stream.clock import SystemClock
from stream.edges import GONE, SHOWN, chained, codes, live, positive
from stream.exposure import FACTORS, exposed, factors, levels
from stream.graph import Graph
from stream.ordering import Orderer
from stream.snapshot import SnapshotStore
from stream.state import State
from stream.view import Csr, GraphConfig

NONE = (-1, float("nan"))
CONFIG = GraphConfig(half_life_us=None)


def factor(position: int, propensity: float) -> float:
    level = levels(np.array([position], np.int32), np.array([propensity]))
    return float(FACTORS[level][0])


@given(
    st.one_of(st.just(-1), st.integers(0, 10**6)),
    st.one_of(st.just(float("nan")), st.floats(1e-300, 1)),
)
def test_it_is_the_clipped_inverse_propensity_of_being_looked_at(
    position: int, propensity: float
) -> None:
    looked = 1.0 if position < 0 else 1.0 / (1 + position)
    drawn = 1.0 if np.isnan(propensity) else propensity
    exact = min(max(looked / drawn, 1 / 8), 8.0)
    assert exact / np.sqrt(2.001) <= factor(position, propensity) <= exact * np.sqrt(2.001)


@pytest.mark.parametrize(
    ("seen", "counts"),
    [(NONE, 1), ((0, float("nan")), 1), ((3, float("nan")), 1 / 4), ((-1, 0.5), 2), ((1, 0.5), 1),
     ((9999, float("nan")), 1 / 8), ((-1, 1e-9), 8)],
)  # fmt: skip
def test_examples(seen: tuple[int, float], counts: float) -> None:
    assert factor(*seen) == counts


def test_an_exposure_changes_no_kind() -> None:
    plain = np.array([Kind.CLICK, Kind.IMPRESSION, Kind.CONVERSION | SHOWN], np.uint8)
    for level in range(8):
        details = Details(
            position=np.full(3, -1, np.int32),
            propensity=np.full(3, np.nan if level == 0 else 2.0 ** (4 - level)),
            value=np.full(3, np.nan), campaign=[""] * 3, request=[""] * 3, currency=[""] * 3,
        )  # fmt: skip
        if level in range(1, 4):
            details.propensity[:] = np.nan
            details.position[:] = 2 ** (4 - level) - 1
        stored = exposed(plain, details, np.arange(3))
        assert codes(stored).tolist() == [Kind.CLICK, Kind.IMPRESSION, Kind.CONVERSION]
        assert factors(stored).tolist() == [1, FACTORS[level], 1]
        for of in (live, positive, chained):
            assert of(stored).tolist() == of(plain).tolist()
        assert not live(stored | np.uint8(GONE)).any()


def batch(
    rows: list[tuple[Kind, str, str]], first: int, seen: dict[int, tuple[int, float]]
) -> EventBatch:
    """Events (kind, item, refers to) of one user, and position and propensity of some."""
    n = len(rows)
    at = [seen.get(i, NONE) for i in range(n)]
    return EventBatch(
        partition=Partition("events", 0),
        row=np.arange(n),
        offsets=np.arange(first, first + n),
        kind=np.array([r[0] for r in rows], np.uint8),
        time_us=np.arange(first, first + n) * 10,
        event_id=[f"e{first + i}" for i in range(n)],
        user=["u"] * n,
        item=[r[1] for r in rows],
        refers_to=[r[2] for r in rows],
        details=Details(
            position=np.array([p for p, _ in at], np.int32),
            propensity=np.array([p for _, p in at]),
            value=np.full(n, np.nan), campaign=[""] * n, request=[""] * n, currency=[""] * n,
        ),
    )  # fmt: skip


def listed(csr: Csr) -> list[tuple[int, int, float]]:
    columns = (csr.item, csr.kind, csr.weight)
    return [(i, k, round(w, 6)) for i, k, w in zip(*(c.tolist() for c in columns), strict=True)]


def test_it_goes_from_the_event_to_the_view_and_through_a_snapshot(tmp_path: Path) -> None:
    graph = Graph(CONFIG)
    shown = Kind.IMPRESSION
    rows = [
        (shown, "a", ""),
        (shown, "b", ""),
        (shown, "c", ""),
        (shown, "d", ""),
        (shown, "e", ""),
    ]
    seen = {0: (3, float("nan")), 1: (0, 0.25), 3: (7, 0.125), 4: (0, 0.01)}
    graph.apply(batch(rows, 0, seen), np.arange(5))
    # One is clicked, one converts without a click: neither is an impression any more.
    answers = [(Kind.CLICK, "d", "e3"), (Kind.CONVERSION, "e", "e4")]
    graph.apply(batch(answers, 5, {}), np.arange(2))
    expected = [(0, 7, -0.025), (1, 7, -0.4), (2, 7, -0.1), (4, 6, 3.0), (3, 1, 1.0)]
    assert listed(graph.view().csr(impressions=True)) == expected
    assert [name for *_, name in graph.edges_by_name()].count("IMPRESSION") == 3
    store = SnapshotStore(tmp_path, SystemClock())
    store.commit(State(graph, Orderer()))
    store.close()
    opened = store.open_view(CONFIG)
    assert opened is not None
    assert listed(opened.view.csr(impressions=True)) == expected
