import numpy as np
import pytest

from model import cold
from model.cold import place
from model.data import unit_rows
from model.errors import InvalidInput


def pieces(n: int = 7, m: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    text, warm = (rng.standard_normal((k, 6)).astype(np.float32) for k in (n, m))
    vectors = unit_rows(rng.standard_normal((m, 4)).astype(np.float32))
    return text, warm, vectors, rng.random(m) * 9


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_the_plan_is_its_formula(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "_BLOCK", block)
    text, warm, vectors, counts = pieces()
    placed = place(text, warm, vectors, counts, epsilon=0.3)
    cosine = unit_rows(text).astype(np.float64) @ unit_rows(warm).astype(np.float64).T
    plan = (counts + 0.1) * np.exp(cosine / 0.3)
    plan /= plan.sum(1, keepdims=True)
    np.testing.assert_allclose(placed.counts, plan @ counts, rtol=1e-5)
    mean = plan @ vectors
    np.testing.assert_allclose(placed.vectors, mean, atol=1e-5)
    user = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    np.testing.assert_allclose(placed.vectors @ user, plan @ (vectors @ user), atol=1e-5)


def test_it_is_the_entropic_plan_with_the_counts_as_reference() -> None:
    # Semi-relaxed: among rows of sum 1 it minimises <T, C> + ε·KL(T | counts).
    text, warm, _, counts = pieces(1, 5)
    eye = np.eye(5, dtype=np.float32)
    reference = (counts + 0.1) / (counts + 0.1).sum()
    cost = 1 - (unit_rows(text) @ unit_rows(warm).T)[0].astype(np.float64)

    def objective(plan: np.ndarray) -> float:
        return float(plan @ cost + 0.2 * (plan * np.log(plan / reference)).sum())

    direction = place(text, warm, eye, counts, epsilon=0.2).vectors[0].astype(np.float64)
    plan = direction / direction.sum()
    best = objective(plan)
    rng = np.random.default_rng(1)
    for _ in range(200):
        other = plan * np.exp(0.1 * rng.standard_normal(5))
        assert objective(other / other.sum()) >= best - 1e-9


def test_the_popular_one_of_two_equals_decides() -> None:
    text = np.array([[1, 0]], np.float32)
    warm = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    vectors = np.eye(3, dtype=np.float32)
    placed = place(text, warm, vectors, np.array([9.0, 0.0, 9.0]))
    assert placed.vectors[0].argmax() == 0
    assert placed.counts[0] == pytest.approx(9 * 9.1 / 9.2, rel=1e-3)


def test_no_text_and_no_neighbours_give_no_place() -> None:
    text, warm, vectors, counts = pieces()
    text[2] = 0
    placed = place(text, warm, vectors, counts)
    assert not placed.vectors[2].any()
    assert placed.counts[2] == 0
    assert placed.vectors[1].any()
    alone = place(text, warm[:0], vectors[:0], counts[:0])
    assert alone.vectors.shape == (7, 4)
    assert not alone.vectors.any()
    assert place(text[:0], warm, vectors, counts).vectors.shape == (0, 4)


def test_what_does_not_fit_is_refused() -> None:
    text, warm, vectors, counts = pieces()
    with pytest.raises(InvalidInput, match="differ in dimension"):
        place(text[:, :3], warm, vectors, counts)
    with pytest.raises(InvalidInput, match="30 warm texts"):
        place(text, warm, vectors[:3], counts)
    with pytest.raises(InvalidInput, match="NaN"):
        place(np.full_like(text, np.nan), warm, vectors, counts)
    with pytest.raises(InvalidInput, match="negative"):
        place(text, warm, vectors, -counts)
