"""Users start among those who prefer alike: in NumPy as torch defines it, and never too early."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from model.data import unit_rows
from model.errors import InvalidInput
from model.user_graph import Profiled, UserGraph


def described(n: int, width: int = 4, seed: int = 0) -> Profiled:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, width)).astype(np.float32)
    user = np.sort(rng.choice(5 * n, n, replace=False)).astype(np.int64)
    return Profiled(user, np.full(n, 100), np.full(n, 7), vectors)


def begun(graph: UserGraph, own: np.ndarray, **other: object) -> np.ndarray:
    n = len(own)
    asked = {
        "user": graph.profiled.user,
        "events": np.zeros(n, np.int64),
        "time_us": np.full(n, 101),
        "sequence": np.full(n, 7),
    }
    return graph.begin(own, **(asked | other))


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 12),
    k=st.integers(1, 5),
    temperature=st.floats(0.02, 2),
    half=st.floats(0.1, 10),
)
def test_it_is_what_torch_says(seed: int, n: int, k: int, temperature: float, half: float) -> None:
    rng = np.random.default_rng(seed)
    profiled = described(n, seed=seed)
    profiled.vectors[rng.random(n) < 0.1] = 0
    own = unit_rows(rng.standard_normal((n, 6)).astype(np.float32))
    own[rng.random(n) < 0.3] = 0
    events = rng.integers(0, 9, n)
    graph = UserGraph.of(profiled, own, neighbours=k, temperature=temperature, half=half)

    said, u = functional.normalize(torch.from_numpy(profiled.vectors)), torch.from_numpy(own)
    cosine = said @ said.T
    cosine[:, ~(u.any(1) & said.any(1))] = -torch.inf
    cosine.fill_diagonal_(-torch.inf)
    top = cosine.topk(min(k, n), dim=1)
    share = (top.values / temperature).softmax(1).nan_to_num(0.0)
    share = share * said.any(1)[:, None]
    prior = (share[:, :, None] * u[top.indices]).sum(1)
    weight = half / (half + torch.from_numpy(events))
    mixed = u + weight[:, None] * prior
    expected = functional.normalize(mixed, eps=1e-12)

    clear = mixed.norm(dim=1).numpy() > 1e-3
    found = begun(graph, own, events=events)
    np.testing.assert_allclose(found[clear], expected.numpy()[clear], atol=1e-4)
    np.testing.assert_allclose(graph.prior, prior.numpy(), atol=1e-5)


def test_alike_users_bring_a_new_one_where_they_are() -> None:
    """Two tastes of 20 users each, texts alike within a taste; one user of each has no events."""
    rng = np.random.default_rng(0)
    taste = np.arange(40) % 2
    texts = unit_rows((np.eye(2, 8)[taste] + 0.3 * rng.standard_normal((40, 8))).astype(np.float32))
    own = unit_rows((np.eye(2, 5)[taste] + 0.3 * rng.standard_normal((40, 5))).astype(np.float32))
    own[:2] = 0
    n = np.arange(40, dtype=np.int64)
    graph = UserGraph.of(Profiled(n, n, n, texts), own, neighbours=5, temperature=0.1, half=1.0)
    found = begun(graph, own, time_us=n + 1, sequence=n)
    assert found[0, 0] > 0.9
    assert found[1, 1] > 0.9
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_more_events_the_less_the_neighbours_say() -> None:
    profiled = described(3)
    own = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    graph = UserGraph.of(profiled, own, neighbours=2, temperature=0.1, half=2.0)
    first = {"user": profiled.user[:1], "time_us": np.full(1, 101), "sequence": np.full(1, 7)}
    turn = [
        float(graph.begin(own[:1], events=np.array([n]), **first)[0, 1]) for n in (0, 2, 20, 2000)
    ]
    assert turn == sorted(turn, reverse=True)
    assert turn[0] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert turn[1] == pytest.approx(0.5 / np.sqrt(1.25), abs=1e-6)
    assert turn[3] < 1e-2


@pytest.mark.parametrize(
    ("time_us", "sequence", "used"),
    [(101, 7, True), (101, 8, True), (100, 7, False), (101, 6, False), (100, 6, False)],
)
def test_a_profile_counts_only_for_what_comes_after_it(
    time_us: int, sequence: int, used: bool
) -> None:
    own = np.eye(3, dtype=np.float32)
    graph = UserGraph.of(described(3), own, neighbours=2, temperature=0.1, half=1.0)
    found = begun(graph, own, time_us=np.full(3, time_us), sequence=np.full(3, sequence))
    assert np.array_equal(found, own) != used


def test_who_is_not_described_stays_as_folded_in() -> None:
    own = np.eye(3, dtype=np.float32)
    graph = UserGraph.of(described(3), own, neighbours=2, temperature=0.1, half=1.0)
    others = np.array([-1, 999, graph.profiled.user[0] + 1])
    others[2] += np.isin(others[2], graph.profiled.user) * 500
    np.testing.assert_array_equal(begun(graph, own, user=others), own)
    empty = UserGraph.of(described(0), own[:0], neighbours=2, temperature=0.1, half=1.0)
    np.testing.assert_array_equal(
        begun(graph, own, user=others),
        empty.begin(
            own, user=others, events=np.zeros(3, np.int64), time_us=others, sequence=others
        ),
    )


def test_what_does_not_fit_is_refused() -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(InvalidInput, match="2 users"):
        Profiled(np.arange(2), one, one, np.zeros((2, 3), np.float32))
    with pytest.raises(InvalidInput, match="ascend"):
        Profiled(np.zeros(2, np.int64), np.arange(2), np.arange(2), np.zeros((2, 3), np.float32))
    numbers = {"neighbours": 2, "temperature": 0.1, "half": 1.0}
    with pytest.raises(InvalidInput, match="1 vectors of 3"):
        UserGraph.of(described(3), np.zeros((1, 2), np.float32), **numbers)
    for name in numbers:
        with pytest.raises(InvalidInput, match="above zero"):
            UserGraph.of(described(3), np.zeros((3, 2), np.float32), **(numbers | {name: 0}))
