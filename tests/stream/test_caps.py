"""Caps: exact while there is room, and loud about what had to be forgotten."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.caps import ROW_BYTES, ROWS, Caps
from stream.catalog import CampaignRecord
from stream.clock import ManualClock
from stream.snapshot import SnapshotStore
from tests.stream.test_spend import Kind, act, books, campaign, feed, fresh

MINUTE_US = 60_000_000


def record(cap: int, window_s: int = 60) -> CampaignRecord:
    return CampaignRecord(0, "e", cap=cap, cap_window_s=window_s)


def watching(rows: int = ROWS, **windows_us: int) -> Caps:
    caps = Caps(rows)
    for name, window_us in (windows_us or {"c": MINUTE_US}).items():
        caps.watch(name, window_us)
    return caps


def test_a_user_is_capped_when_shown_as_often_within_the_window() -> None:
    caps, known = watching(), {"c": record(2)}
    for time_us in (0, 10):
        caps.shown(7, "c", time_us)
    assert caps.capped(7, 10, known) == {"c"}
    assert caps.capped(7, MINUTE_US - 1, known) == {"c"}
    assert caps.capped(7, MINUTE_US, known) == frozenset(), "the first is a window old"
    assert caps.capped(8, 10, known) == caps.capped(-1, 10, known) == frozenset()
    assert caps.capped(7, 10, {"c": record(3)}) == frozenset(), "the cap of now counts"
    assert caps.capped(7, 10, {}) == frozenset()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("cd"), st.integers(0, 100)), max_size=60),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_what_is_remembered_is_counted_exactly(
    shown: list[tuple[int, str, int]], rows: int
) -> None:
    caps, known = watching(rows, c=MINUTE_US, d=MINUTE_US), {"c": record(2), "d": record(3)}
    for user, name, minute in shown:
        caps.shown(user, name, minute * MINUTE_US // 3)
    assert len(caps) == min(rows, len(shown))
    now_us = max((minute for *_, minute in shown), default=0) * MINUTE_US // 3
    for user in range(4):
        expected: set[str] = set()
        for name, cap in (("c", 2), ("d", 3)):
            mine = [m for u, n, m in shown[-rows:] if (u, n) == (user, name)]
            within = [m for m in mine if m * MINUTE_US // 3 > now_us - MINUTE_US]
            expected |= {name} if len(within) >= cap else set()
        assert caps.capped(user, now_us, known) == expected


def test_what_is_forgotten_within_its_window_is_counted() -> None:
    caps = watching(3)
    for n in range(5):
        caps.shown(n, "c", n)
    assert (len(caps), caps.forgotten) == (3, 2)
    caps.shown(5, "c", 10 * MINUTE_US)
    assert caps.forgotten == 2, "that one was older than its window"


def test_one_that_came_very_late_hides_none_before_it() -> None:
    caps, known = watching(), {"c": record(1)}
    caps.shown(0, "c", 100 * MINUTE_US)
    caps.shown(0, "c", 1)
    assert caps.capped(0, 100 * MINUTE_US, known) == {"c"}


def test_a_window_that_is_lengthened_counts_at_once() -> None:
    caps = watching()
    caps.shown(0, "c", 0)
    caps.watch("c", 10 * MINUTE_US)
    assert caps.capped(0, 9 * MINUTE_US, {"c": record(1, 600)}) == {"c"}


def test_memory_is_what_is_said() -> None:
    caps = watching()
    for n in range(3_000):
        caps.shown(n % 7, "c", n)
    held = (caps._user, caps._campaign, caps._time_us, caps._before)
    assert sum(a.itemsize for a in held) == ROW_BYTES
    assert len(caps._user) == 4_096 < ROWS


def test_an_erased_user_s_impressions_are_gone_from_disk_too(tmp_path: Path) -> None:
    state, store = fresh(), SnapshotStore(tmp_path, ManualClock())
    feed(state, [campaign("c1", 0, cap=1)])
    feed(state, [act(Kind.IMPRESSION, f"e{n}", n, of="c", user="uv"[n % 2]) for n in range(6)])
    store.commit(state)
    erasure = (Kind.ERASE_USER, "x", "u", "", 9, {})
    feed(state, [erasure])
    store.commit(state)
    loaded = SnapshotStore(tmp_path, ManualClock()).load(ordering=state.orderer.config)
    assert loaded is not None
    assert books(loaded) == books(state)
    [v] = loaded.graph.users.find(["v"]).tolist()
    caps = loaded.graph.ledger.caps
    assert caps.rows(0, caps.next)[0].tolist() == [-1, v] * 3
    store.close()


def test_caps_are_restored_after_a_restart(tmp_path: Path) -> None:
    state, store = fresh(), SnapshotStore(tmp_path, ManualClock())
    shown = [act(Kind.IMPRESSION, f"e{n}", n, of="c") for n in range(3)]
    feed(state, [campaign("c1", 0, cap=3, cap_window_s=60), *shown])
    store.commit(state)
    store.close()
    loaded = SnapshotStore(tmp_path, ManualClock()).load(ordering=state.orderer.config)
    assert loaded is not None
    graph = loaded.graph
    asked = graph.ledger.caps.capped, graph.catalog.campaigns
    assert asked[0](0, 2_000_000, asked[1]) == {"c"}
    assert asked[0](0, 60_000_000, asked[1]) == frozenset()


@pytest.mark.parametrize("rows", [0, -1])
def test_something_is_remembered(rows: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Caps(rows)


def test_asking_takes_microseconds() -> None:
    caps, known = watching(c=86_400_000_000), {"c": record(9, 86_400)}
    rng = np.random.default_rng(0)
    for n, user in enumerate(rng.integers(2_000, size=20_000).tolist()):
        caps.shown(user, "c", n * 1_000)
    began = perf_counter()
    for user in range(1_000):
        caps.capped(user, 20_000_000, known)
    assert (perf_counter() - began) / 1_000 < 200e-6  # about 10 on an idle core
