"""Ids left in Arrow's columns: found as a table of strings would find them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.batch import Partition
from stream.frozen_ids import FrozenIds, hashes
from stream.window import IdTable, IdWindow, Stored

P, Q = Partition("p", 0), Partition("p", 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def column(ids: Sequence[str]) -> "pa.LargeStringArray":
    return pa.array(ids, pa.large_string())


def found(frozen: FrozenIds, wanted: Sequence[str]) -> set[tuple[str, int, int]]:
    return set(frozen.find(wanted))


@given(st.lists(st.lists(names, max_size=8), min_size=1, max_size=4), st.lists(names, max_size=8))
def test_every_id_is_found_where_it_lies_and_no_other_is(
    parts: list[list[str]], more: list[str]
) -> None:
    places = {(name, p, r) for p, part in enumerate(parts) for r, name in enumerate(part)}
    if not places:
        return
    frozen = FrozenIds([column(part) for part in parts])
    wanted = [*more, *(name for name, _, _ in places)]
    assert found(frozen, wanted) == {place for place in places if place[0] in wanted}
    for at, part in enumerate(parts):
        frozen.forget(at)
        places = {place for place in places if place[1] != at}
        assert found(frozen, [*part, *more]) == {p for p in places if p[0] in [*part, *more]}


def test_a_slice_of_a_column_has_the_hashes_of_its_rows() -> None:
    whole = column(["a", "bcd", "", "efgh1234", "ij"])
    assert hashes(whole[1:4]).tolist() == hashes(whole)[1:4].tolist()
    assert hashes(column([])).tolist() == []


def test_of_two_ids_with_one_hash_each_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(ids: "pa.LargeStringArray") -> NDArray[np.uint64]:
        return np.full(len(ids), 7 << 40, np.uint64)

    monkeypatch.setattr("stream.frozen_ids.hashes", same)
    frozen = FrozenIds([column(["a", "b"]), column(["c"])])
    assert found(frozen, ["c", "b", "x"]) == {("c", 1, 0), ("b", 0, 1)}


def test_a_restored_window_gives_back_its_memory_with_its_last_block() -> None:
    window = IdWindow(4, 2, numbered=False)
    window.lanes.restore(P, 3)
    window.restore([Stored(P, 0, column(["a", "b"])), Stored(P, 1, column(["c"]))])
    window.add(P, ["d"])
    assert window.known(["a", "c", "d", "x"]) == {"a", "c", "d"}
    assert window.since(P, 1, 0) == (["c", "d"], [])
    assert window.since(P, 1, 1) == (["d"], [])
    assert window.sizes(P) == {0: 2, 1: 2}
    window.passed(P, 1)
    for block in range(3):
        assert window.known(["a"]) == ({"a"} if block < 1 else set())
        assert window.known(["c"]) == ({"c"} if block < 2 else set())
        window.passed(P, 2)
    assert window.known(["a", "b", "c", "d"]) == set()
    assert window._frozen.ids is None


def test_a_restored_table_knows_numbers_and_the_newest_of_several() -> None:
    table = IdTable(4, 2)
    for partition in (P, Q):
        table.lanes.restore(partition, 3)
    table.restore(
        [
            Stored(P, 0, column(["a", "b"]), np.array([1, 2])),
            Stored(P, 1, column(["c"]), np.array([3])),
            Stored(Q, 1, column(["a"]), np.array([9])),
        ]
    )
    assert [table.get(name) for name in "abcx"] == [1, 2, 3, None]
    table.add(P, ["b"], [7])
    table.recall(["a", "b", ""])
    assert [table.get(name) for name in "abc"] == [1, 7, 3]
    assert table.since(P, 1, 0) == (["c", "b"], [3, 7])
    assert table.sizes(P) == {0: 2, 1: 2}
    table.passed(P, 1)
    table.passed(P, 2)
    assert [table.get(name) for name in "abc"] == [9, 7, 3]
