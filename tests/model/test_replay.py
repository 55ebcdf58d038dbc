"""What a fine-tune learns from, against a plain rule for each event."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.config import ModelConfig
from model.data import Interactions, interactions
from model.replay import ReplayKind, Targets, by_octave, choose, learnable, unlearned
from model.sampling import contexts, others
from model.trainer import finetune

USERS, ITEMS = 5, 6
Events = list[tuple[int, int, float]]
events = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.sampled_from([0.0, 0.5, 1])),
    max_size=40,
)


def grouped(rows: Events) -> Interactions:
    return interactions(
        np.array([user for user, _, _ in rows], np.int64),
        np.array([item for _, item, _ in rows], np.int64),
        items=ITEMS,
        users=USERS,
        weight=np.array([weight for _, _, weight in rows], np.float32),
    )


def past(rows: Events, sequence: int) -> list[int]:
    """Items of the same user's events before this one, the newest first."""
    return [item for user, item, _ in rows[:sequence][::-1] if user == rows[sequence][0]]


@settings(max_examples=100, deadline=None)
@given(events)
def test_targets_have_a_past_a_weight_and_are_new_to_their_user(rows: Events) -> None:
    data = grouped(rows)
    usable = learnable(data)
    for row, sequence in enumerate(data.sequence.tolist()):
        before = past(rows, sequence)
        _, item, weight = rows[sequence]
        assert usable[row] == (len(before) > 0 and weight > 0 and item not in before)


@settings(max_examples=100, deadline=None)
@given(events, st.integers(1, 8))
def test_a_context_is_what_came_before_and_nothing_else(rows: Events, length: int) -> None:
    data = grouped(rows)
    starts = data.indptr[:-1].repeat(np.diff(data.indptr))
    every = np.arange(len(data))
    found, time_us = contexts(data, starts, every, length)
    assert found.shape == (len(data), length)
    for row, sequence in enumerate(data.sequence.tolist()):
        expected = past(rows, sequence)[:length]
        assert found[row].tolist() == expected + [-1] * (length - len(expected))
        assert (np.diff(time_us[row, : len(expected)]) < 0).all()
        assert (time_us[row, : len(expected)] < sequence).all()


@pytest.fixture(scope="module")
def data() -> Interactions:
    """30 events of one user, each of another item."""
    return interactions(np.zeros(30, np.int64), np.arange(30), items=30)


@pytest.mark.parametrize("kind", ["uniform", "stratified"])
@pytest.mark.parametrize(("replay", "wanted"), [(0.0, 0), (0.5, 5), (1.3, 13), (9.0, 19)])
def test_all_that_is_new_and_so_much_of_the_old(
    data: Interactions, replay: float, wanted: int, kind: ReplayKind
) -> None:
    chosen = choose(data, data.sequence >= 20, replay, kind)
    taken = data.sequence[chosen.draw(np.random.default_rng(0))]
    assert len(chosen.fresh) == 10
    assert sorted(taken[:10].tolist()) == list(range(20, 30))
    again = taken[10:]
    assert len(np.unique(again)) == len(again) == chosen.replayed == wanted
    assert len(chosen) == 10 + wanted
    assert ((again >= 1) & (again < 20)).all()


@pytest.mark.parametrize(("known", "share"), [(0, 1.0), (20, 10 / 29), (29, 1 / 29), (30, 0.0)])
def test_the_share_of_what_is_new_counts_targets_alone(
    data: Interactions, known: int, share: float
) -> None:
    assert choose(data, data.sequence >= known, 0.5).share_new == pytest.approx(share)


def test_with_nothing_to_learn_from_all_is_new(data: Interactions) -> None:
    nothing = interactions(np.zeros(1, np.int64), np.zeros(1, np.int64), items=1)
    assert choose(nothing, np.zeros(1, np.bool_), 1.0).share_new == 1.0


def test_each_epoch_draws_anew(data: Interactions) -> None:
    chosen, rng = choose(data, data.sequence >= 20, 0.5), np.random.default_rng(0)
    first, second = (set(chosen.draw(rng)[10:].tolist()) for _ in range(2))
    assert first != second


def test_a_finetune_draws_in_each_epoch(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(dim=4, context=4, half_lives=(4,), epochs=3, replay=0.5)
    before = interactions(np.zeros(20, np.int64), np.arange(20), items=30)
    first = finetune(before, config=config, seed=0).state
    drawn: list[frozenset[int]] = []
    draw = Targets.draw

    def watched(targets: Targets, rng: np.random.Generator) -> NDArray[np.int64]:
        rows = draw(targets, rng)
        drawn.append(frozenset(rows.tolist()))
        return rows

    monkeypatch.setattr(Targets, "draw", watched)
    finetune(data, previous=first, config=config, seed=0)
    assert len(drawn) == len(set(drawn)) == 3
    assert len(frozenset.intersection(*drawn)) >= 10


def test_replay_is_uniform_over_the_old(data: Interactions) -> None:
    chosen, rng = choose(data, data.sequence >= 20, 0.5), np.random.default_rng(0)
    drawn = np.concatenate([chosen.draw(rng)[10:] for _ in range(2_000)])
    counts = np.bincount(drawn, minlength=20)[1:20]
    # 5 of 19 each time: mean 526, standard deviation 20.
    assert counts.min() > 526 - 5 * 20
    assert counts.max() < 526 + 5 * 20


def test_each_octave_of_age_is_replayed_alike() -> None:
    data = interactions(np.zeros(160, np.int64), np.arange(160), items=160)
    chosen, rng = choose(data, data.sequence >= 150, 0.1, "stratified"), np.random.default_rng(0)
    drawn = np.concatenate([data.sequence[chosen.draw(rng)[10:]] for _ in range(4_000)])
    age = 149 - drawn
    # Octaves of 10, 10, 20, 40 events and what is left of the fifth, 69 (the first is no target).
    counts = np.histogram(age, [0, 10, 20, 40, 80, 160])[0]
    assert np.abs(counts - 800).max() < 5 * np.sqrt(4_000 * 0.2 * 0.8)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60, unique=True), st.integers(0, 9))
def test_octaves_have_the_same_chance_whatever_the_order(sequence: list[int], unit: int) -> None:
    order = np.array(sequence, np.int64)
    chance, back = by_octave(order, unit), by_octave(np.sort(order), unit)
    np.testing.assert_array_equal(chance[np.argsort(order)], back)
    assert chance.sum() == pytest.approx(
        np.floor(np.log2(max((len(order) - 1) // max(unit, 1), 0.5))) + 2
    )


def test_a_label_that_came_late_is_new_once(data: Interactions) -> None:
    late = replace(data, late=np.isin(data.sequence, [3, 7, 25]))
    assert data.sequence[unlearned(late, 20, np.array([7]))].tolist() == [3, *range(20, 30)]
    for told, known in ((late, None), (data, np.array([7]))):
        assert data.sequence[unlearned(told, 20, known)].tolist() == list(range(20, 30))


def test_without_new_events_nothing_is_replayed(data: Interactions) -> None:
    chosen = choose(data, data.sequence >= 30, 2.0)
    assert len(chosen.draw(np.random.default_rng(0))) == len(chosen) == 0


@settings(max_examples=100, deadline=None)
@given(events, st.integers(1, 50))
def test_without_an_order_a_context_is_what_else_the_user_has(rows: Events, length: int) -> None:
    data = grouped(rows)
    found = others(data, np.arange(len(data)), length)
    usable = learnable(data, order_free=True)
    for row, sequence in enumerate(data.sequence.tolist()):
        user, item, weight = rows[sequence]
        beside = [i for at, (u, i, _) in enumerate(rows) if u == user and at != sequence]
        assert usable[row] == (bool(beside) and weight > 0 and item not in past(rows, sequence))
        kept = sorted(found[row][found[row] >= 0].tolist())
        every = sorted(i for i in beside if i != item)
        assert kept == every if len(beside) <= length else len(kept) <= length
