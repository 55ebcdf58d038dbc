"""Nearest rows: the exact answer, whatever the way to it."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import neighbours
from model.data import unit_rows
from model.errors import InvalidInput
from model.neighbours import Neighbours, nearest, search


def drawn(rows: int, dim: int = 16, seed: int = 0, topics: int = 20) -> NDArray[np.float32]:
    """Rows around some topics, as texts lie."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((topics, dim))
    noise = rng.standard_normal((rows, dim))
    return unit_rows((centre[rng.integers(0, topics, rows)] + 0.5 * noise).astype(np.float32))


def plainly(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """All pairs, sorted."""
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -np.inf)
    return np.argsort(-cosine, axis=1, kind="stable")[:, :k]


def test_they_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(300)
    expected = plainly(rows, 7)
    monkeypatch.setattr(neighbours, "_BLOCK", 1000)
    found = nearest(rows, 7)
    np.testing.assert_array_equal(found.ids, expected)
    cosine = np.take_along_axis(rows @ rows.T, expected, 1)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-6)


@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    k=st.integers(1, 6),
    block=st.sampled_from([1, 7, 1 << 22]),
)
def test_going_on_gives_what_starting_anew_gives(
    seed: int, sizes: list[int], k: int, block: int
) -> None:
    """Rows come, change, vanish and return between one table and the next."""
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK", block)
        rows, table = np.zeros((0, 5), np.float32), None
        for size in sizes:
            rows = rows.copy()
            touched = rng.random(len(rows)) < 0.2
            rows[touched] = rng.standard_normal((int(touched.sum()), 5))
            rows[rng.random(len(rows)) < 0.1] = 0
            new = rng.standard_normal((size, 5)).astype(np.float32)
            rows = unit_rows(np.concatenate([rows, new]))
            table = nearest(rows, k, table)
            anew = nearest(rows, k)
            np.testing.assert_array_equal(table.ids, anew.ids)
            np.testing.assert_allclose(table.cosine, anew.cosine, atol=1e-6)
            np.testing.assert_array_equal(table.stamp, anew.stamp)


def test_a_few_new_rows_are_all_that_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asked = drawn(400), list[int]()
    before = nearest(rows[:390], 5)

    def counted(queries: NDArray[np.float32], *rest: Any, **named: Any) -> Any:
        asked.append(len(queries))
        return search(queries, *rest, **named)

    monkeypatch.setattr(neighbours, "search", counted)
    nearest(rows, 5, before)
    nearest(rows, 5, nearest(rows, 5))
    assert asked == [10, 400, 0]


def test_an_absent_row_has_no_neighbours_and_is_nobodys() -> None:
    rows = drawn(6)
    rows[2] = 0
    found = nearest(rows, 5)
    assert (found.ids[2] == -1).all()
    assert not (found.ids == 2).any()
    assert (found.ids[0] >= 0).sum() == 4
    assert found.ids[0, 4] == -1
    assert found.cosine[0, 4] == 0
    assert found.stamp[2] == 0
    assert nearest(np.zeros((3, 4), np.float32), 2).ids.tolist() == [[-1, -1]] * 3


def test_equals_stand_in_the_order_of_their_numbers() -> None:
    rows = np.ones((5, 1), np.float32)
    assert nearest(rows, 4).ids.tolist() == [
        [1, 2, 3, 4],
        [0, 2, 3, 4],
        [0, 1, 3, 4],
        [0, 1, 2, 4],
        [0, 1, 2, 3],
    ]


def test_over_an_index_nearly_all_are_found_and_the_same_each_time() -> None:
    rows = drawn(2000, dim=32, topics=60)
    found, again = (nearest(rows, 10, exact=0) for _ in range(2))
    np.testing.assert_array_equal(found.ids, again.ids)
    expected = plainly(rows, 10)
    hits = [
        len(set(a) & set(b)) for a, b in zip(found.ids.tolist(), expected.tolist(), strict=True)
    ]
    assert np.mean(hits) / 10 >= 0.98
    assert not (found.ids == np.arange(2000)[:, None]).any()
    cosine = np.einsum("nt,nkt->nk", rows, rows[found.ids])
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-6)
    assert (np.diff(found.cosine, axis=1) <= 0).all()


def test_an_index_of_few_rows_says_that_there_are_no_more() -> None:
    ids, cosine = search(drawn(2), drawn(3, seed=1), 5, exact=0)
    assert (np.sort(ids[:, :3], axis=1) == [0, 1, 2]).all()
    assert (ids[:, 3:] == -1).all()
    assert (cosine[:, 3:] == 0).all()
    one, _ = search(drawn(1), drawn(1), 1, leave_out=np.zeros(1, np.int64), exact=0)
    assert one.tolist() == [[-1]]


@pytest.mark.parametrize("exact", [0, 10**9])
def test_no_table_of_all_pairs_is_held(exact: int) -> None:
    """All pairs would be 256 MB; memory outside NumPy, the index's, is linear by its making."""
    rows = drawn(8000, dim=4)
    tracemalloc.start()
    nearest(rows, 5, exact=exact)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 110e6


def test_what_does_not_fit_is_refused() -> None:
    rows = drawn(5)
    with pytest.raises(InvalidInput, match="at least one"):
        nearest(rows, 0)
    with pytest.raises(InvalidInput, match="5 rows, of which 4"):
        nearest(rows[:4], 2, nearest(rows, 2))
    with pytest.raises(InvalidInput, match="stamps"):
        Neighbours(np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32), np.zeros(1, np.uint32))
    assert nearest(rows, 3, nearest(rows, 2)).k == 3
