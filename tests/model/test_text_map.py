import numpy as np
import pytest

from model.cold import place
from model.data import unit_rows
from model.text_map import PENALTIES, fit_map


def pieces(m: int = 80, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts, vectors that depend on them in a linear way, and the way."""
    rng = np.random.default_rng(0)
    text = unit_rows(rng.standard_normal((m, 6)).astype(np.float32))
    way = rng.standard_normal((6, 4))
    vectors = text @ way + 0.5 + noise * rng.standard_normal((m, 4))
    return text, vectors.astype(np.float32), way


def test_each_item_left_out_is_what_the_closed_form_says() -> None:
    text, vectors, _ = pieces(noise=1.0)
    found = fit_map(text, vectors)
    assert found is not None
    errors = {}
    for penalty in PENALTIES:
        missed, alone = 0.0, 0.0
        for j in range(len(text)):
            kept = np.arange(len(text)) != j
            x, z = (a[kept].astype(np.float64) for a in (text, vectors))
            gram = (x - x.mean(0)).T @ (x - x.mean(0)) + penalty * np.eye(6)
            way = np.linalg.solve(gram, (x - x.mean(0)).T @ (z - z.mean(0)))
            guess = (text[j] - x.mean(0)) @ way + z.mean(0)
            missed += ((guess - vectors[j]) ** 2).sum()
            alone += ((z.mean(0) - vectors[j]) ** 2).sum()
        errors[penalty] = 1 - missed / alone
    assert errors[found.penalty] == max(errors.values())
    assert found.explained == pytest.approx(errors[found.penalty], rel=1e-4)


def test_a_new_item_goes_where_its_text_points() -> None:
    text, vectors, way = pieces()
    found = fit_map(text, vectors)
    assert found is not None
    new = unit_rows(np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32))
    wanted = new @ way + 0.5
    placed = place(new, text, vectors, np.arange(80.0), by=found)
    lengths = np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(np.linalg.norm(placed.vectors, axis=1), np.sqrt(lengths), rtol=0.1)
    assert ((unit_rows(placed.vectors) * unit_rows(wanted.astype("f4"))).sum(1) > 0.98).all()
    assert placed.counts.tolist() == [39.5] * 20
    nothing = place(np.zeros((1, 6), np.float32), text, vectors, np.ones(80), by=found)
    assert not nothing.vectors.any()
    assert not nothing.counts.any()


def test_texts_that_say_nothing_make_no_map() -> None:
    text, vectors, _ = pieces()
    shuffled = np.random.default_rng(3).permutation(vectors)
    assert fit_map(text, shuffled) is None
    assert fit_map(text[:1], vectors[:1]) is None
    assert fit_map(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)) is None
