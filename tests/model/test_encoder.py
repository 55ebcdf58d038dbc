"""The fast path and the trainer agree on what a user is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data import unit_rows
from model.encoder import Encoder
from model.errors import InvalidInput
from model.fold_in import fold_in


@given(
    seed=st.integers(0, 2**31),
    users=st.integers(0, 40),
    items=st.integers(1, 60),
    length=st.integers(1, 12),
)
def test_fold_in_agrees_with_the_encoder(seed: int, users: int, items: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    z = unit_rows(rng.standard_normal((items, 8)).astype(np.float32))
    z[rng.random(items) < 0.1] = 0
    log_weights = rng.standard_normal(length).astype(np.float32)
    history = rng.integers(-1, items, (users, length)).astype(np.int32)
    encoder = Encoder(torch.from_numpy(z), torch.from_numpy(log_weights), None, None)
    with torch.no_grad():
        slow = encoder.users(torch.from_numpy(z), torch.from_numpy(history.astype(np.int64)))
    fast = fold_in(z, np.exp(log_weights), history)
    # A sum that cancels to almost nothing has no direction that two roundings could share.
    known = np.where(history >= 0, np.exp(log_weights), 0)
    total = np.einsum("nl,nld->nd", known, z[np.maximum(history, 0)])
    clear = np.linalg.norm(total, axis=1) > 1e-2
    np.testing.assert_allclose(fast[clear], slow.numpy()[clear], atol=1e-5)
    assert not fast[(history < 0).all(axis=1)].any()


def test_more_users_than_a_chunk_fold_like_one_by_one() -> None:
    rng = np.random.default_rng(0)
    z = unit_rows(rng.standard_normal((50, 4)).astype(np.float32))
    weights = np.array([0.6, 0.3, 0.1], np.float32)
    history = rng.integers(-1, 50, (5000, 3)).astype(np.int32)
    some = np.array([0, 4095, 4096, 4999])
    np.testing.assert_allclose(
        fold_in(z, weights, history)[some], fold_in(z, weights, history[some]), atol=1e-6
    )


def test_scaling_the_weights_changes_no_user() -> None:
    rng = np.random.default_rng(1)
    z = unit_rows(rng.standard_normal((9, 4)).astype(np.float32))
    history = rng.integers(0, 9, (6, 3)).astype(np.int32)
    weights = np.array([0.6, 0.3, 0.1], np.float32)
    np.testing.assert_allclose(
        fold_in(z, weights, history), fold_in(z, weights * 7, history), atol=1e-6
    )


def test_items_beyond_the_version_and_columns_beyond_the_context_add_nothing() -> None:
    z = np.eye(2, dtype=np.float32)
    weights = np.array([0.5, 0.5], np.float32)
    folded = fold_in(z, weights, np.array([[9, 0, 1], [9, 9, 1]], np.int32))
    np.testing.assert_allclose(folded, [[1, 0], [0, 0]])
    nothing = fold_in(np.zeros((0, 3), np.float32), weights, np.array([[0, 1]], np.int32))
    np.testing.assert_array_equal(nothing, np.zeros((1, 3)))


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="history"):
        fold_in(np.eye(2, dtype=np.float32), np.ones(2, np.float32), np.zeros(2, np.int32))


def test_text_moves_an_item_as_far_as_its_scale_says() -> None:
    own = torch.tensor([[2.0, 0.0], [0.5, 0.0]])
    text = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    encoder = Encoder(own, torch.zeros(1), torch.eye(2) * 9, torch.tensor(2.0))
    with torch.no_grad():
        z = encoder.items(text).numpy()
        plain = encoder.items(None).numpy()
    np.testing.assert_allclose(z, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(plain, [[1, 0], [1, 0]], atol=1e-6)
