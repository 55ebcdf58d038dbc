"""The fast path and the trainer agree on what a user is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.data import unit_rows
from model.encoder import Encoder
from model.errors import InvalidInput
from model.fold_in import fold_in
from model.recency import GAPS, Recency, buckets, plain
from model.sides import Head


def drawn(
    rng: np.random.Generator, users: int, items: int, length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Histories with holes, and times that go back by seconds to years."""
    history = rng.integers(-1, items, (users, length)).astype(np.int32)
    back = np.cumsum(np.exp(rng.uniform(-3, 17, (users, length))), axis=1) * 1e6
    return history, 1_767_225_600_000_000 - back.astype(np.int64)


@given(
    seed=st.integers(0, 2**31),
    users=st.integers(0, 40),
    items=st.integers(1, 60),
    length=st.integers(1, 12),
    groups=st.sampled_from([1, 2, 4]),
)
def test_fold_in_agrees_with_the_encoder(
    seed: int, users: int, items: int, length: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    z = unit_rows(rng.standard_normal((items, 8)).astype(np.float32))
    z[rng.random(items) < 0.1] = 0
    log_weights = rng.standard_normal((groups, length)).astype(np.float32)
    log_gaps = rng.standard_normal((groups, GAPS)).astype(np.float32)
    history, time_us = drawn(rng, users, items, length)
    encoder = Encoder(*map(torch.from_numpy, (z, log_weights, log_gaps)), torch.tensor(0.0))
    gap = buckets(time_us, history >= 0)
    with torch.no_grad():
        slow = encoder.users(
            torch.from_numpy(z), torch.from_numpy(history.astype(np.int64)), torch.from_numpy(gap)
        )
    recency = Recency(np.exp(log_weights), np.exp(log_gaps))
    fast = fold_in(z, recency, history, time_us)
    # A sum that cancels to almost nothing has no direction that two roundings could share.
    total = _plainly(z, recency, history, time_us)
    clear = np.linalg.norm(total, axis=1) > 1e-2
    np.testing.assert_allclose(fast[clear], slow.numpy()[clear], atol=1e-5)
    np.testing.assert_allclose(fast[clear], unit_rows(total.astype(np.float32))[clear], atol=1e-5)
    assert not fast[(history < 0).all(axis=1)].any()


def _plainly(
    z: NDArray[np.float32],
    recency: Recency,
    history: NDArray[np.int32],
    time_us: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The definition, an event at a time."""
    width = z.shape[1] // recency.groups
    total = np.zeros((len(history), z.shape[1]))
    for user, row in enumerate(history.tolist()):
        for place, item in enumerate(row):
            if item < 0:
                continue
            newest = time_us[user, 0] if row[0] >= 0 else 0
            seconds = max(int(newest) - int(time_us[user, place]), 0) / 1e6
            gap = min(int(np.log2(1 + seconds) // 2), GAPS - 1)
            for group in range(recency.groups):
                part = slice(group * width, (group + 1) * width)
                weight = recency.position[group, place] * recency.gap[group, gap]
                total[user, part] += weight * z[item, part]
    return total


def test_buckets_quadruple_and_end() -> None:
    seconds = np.array([[0, 0.5, 1, 2.9, 3, 14, 15, 62, 63, 1e9, -5]])
    time_us = 10**15 - (seconds * 1e6).astype(np.int64)
    found = buckets(time_us, np.ones(seconds.shape, np.bool_))
    np.testing.assert_array_equal(found, [[0, 0, 0, 0, 1, 1, 2, 2, 3, 11, 0]])
    padded = np.array([[7, np.iinfo(np.int64).min]])
    np.testing.assert_array_equal(buckets(padded, np.array([[True, False]])), [[0, 0]])


def test_a_group_follows_its_own_timescale() -> None:
    """The first dimension forgets at once, the second never."""
    recency = Recency(np.array([[1, 0], [1, 1]], np.float32), np.ones((2, GAPS), np.float32))
    z = np.array([[1, 0], [0, 1]], np.float32)
    history = np.array([[0, 1], [1, 0]], np.int32)
    folded = fold_in(z, recency, history, np.zeros((2, 2), np.int64))
    np.testing.assert_allclose(folded, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], atol=1e-6)


def test_what_lies_long_ago_counts_by_its_bucket() -> None:
    gap = np.ones((1, GAPS), np.float32)
    gap[0, 3] = 0
    recency = Recency(np.ones((1, 2), np.float32), gap)
    times = np.array([[100, 99], [100, 30]]) * 1_000_000
    folded = fold_in(np.eye(2, dtype=np.float32), recency, np.array([[0, 1]] * 2, np.int32), times)
    np.testing.assert_allclose(folded, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0]], atol=1e-6)


def test_more_users_than_a_chunk_fold_like_one_by_one() -> None:
    rng = np.random.default_rng(0)
    z = unit_rows(rng.standard_normal((50, 4)).astype(np.float32))
    recency = plain(np.array([0.6, 0.3, 0.1], np.float32))
    history, time_us = drawn(rng, 5000, 50, 3)
    some = np.array([0, 1023, 1024, 4095, 4096, 4999])
    np.testing.assert_allclose(
        fold_in(z, recency, history, time_us)[some],
        fold_in(z, recency, history[some], time_us[some]),
        atol=1e-6,
    )


def test_scaling_the_weights_changes_no_user() -> None:
    rng = np.random.default_rng(1)
    z = unit_rows(rng.standard_normal((9, 4)).astype(np.float32))
    history, time_us = drawn(rng, 6, 9, 3)
    weights = np.array([0.6, 0.3, 0.1], np.float32)
    np.testing.assert_allclose(
        fold_in(z, plain(weights), history, time_us),
        fold_in(z, plain(weights * 7), history, time_us),
        atol=1e-6,
    )


def test_items_beyond_the_version_and_columns_beyond_the_context_add_nothing() -> None:
    z = np.eye(2, dtype=np.float32)
    recency = plain(np.array([0.5, 0.5], np.float32))
    history = np.array([[9, 0, 1], [9, 9, 1]], np.int32)
    folded = fold_in(z, recency, history, np.zeros((2, 3), np.int64))
    np.testing.assert_allclose(folded, [[1, 0], [0, 0]])
    one = np.array([[0, 1]], np.int32)
    nothing = fold_in(np.zeros((0, 3), np.float32), recency, one, one.astype(np.int64))
    np.testing.assert_array_equal(nothing, np.zeros((1, 3)))


def test_arrays_of_other_shapes_are_refused() -> None:
    z, recency = np.eye(2, dtype=np.float32), plain(np.ones(2, np.float32))
    with pytest.raises(InvalidInput, match="history"):
        fold_in(z, recency, np.zeros(2, np.int32), np.zeros(2, np.int64))
    with pytest.raises(InvalidInput, match="history"):
        fold_in(z, recency, np.zeros((2, 2), np.int32), np.zeros((2, 1), np.int64))
    with pytest.raises(InvalidInput, match="gap weights"):
        Recency(np.ones((1, 2), np.float32), np.ones((2, GAPS), np.float32))
    three = Recency(np.ones((3, 2), np.float32), np.ones((3, GAPS), np.float32))
    with pytest.raises(InvalidInput, match="3 groups"):
        fold_in(z, three, np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int64))


def test_text_moves_an_item_as_far_as_its_scale_says() -> None:
    own = torch.tensor([[2.0, 0.0], [0.5, 0.0]])
    text = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    encoder = Encoder(
        own,
        torch.zeros(1, 1),
        torch.zeros(1, GAPS),
        torch.tensor(0.0),
        sides={"text": Head(torch.eye(2) * 9, text)},
        scale=2.0,
    )
    with torch.no_grad():
        z = encoder.items().numpy()
        plain = encoder.items({}).numpy()
    np.testing.assert_allclose(z, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(plain, [[1, 0], [1, 0]], atol=1e-6)


def test_on_the_simplex_lengths_do_not_count_and_shares_sum_to_one() -> None:
    own = torch.tensor([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    rows = {"text": torch.tensor([[0.0, 3.0, 0], [0, 0, 0]]), "image": torch.eye(3)[[2, 2]]}
    encoder = Encoder(
        own,
        torch.zeros(1, 1),
        torch.zeros(1, GAPS),
        torch.tensor(0.0),
        sides={name: Head(torch.eye(3), each) for name, each in rows.items()},
        scale=0.5,
        fusion="simplex",
    )
    with torch.no_grad():
        z = encoder.items().numpy()
    expected = np.array([[2, 1, 1], [2, 0, 1]], np.float32)
    np.testing.assert_allclose(z, unit_rows(expected), atol=1e-6)
