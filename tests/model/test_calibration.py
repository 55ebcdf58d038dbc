from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.asked import Round
from model.calibration import calibrate
from model.config import ModelConfig
from model.data import Features, Interactions, interactions, unit_rows
from model.evidence import Calibration, nothing
from model.recency import plain
from model.state import ModelState
from model.terms import Terms

ITEMS, UPTO = 200, 3000
CONFIG = ModelConfig(dim=8, context=1, half_lives=(1.0,), calibration_events=400)


def state(z: NDArray[np.float32], learned: NDArray[np.bool_] | None = None) -> ModelState:
    """A version in which a user is the last item."""
    recency = plain(np.ones(1, np.float32))
    parameters = {"embedding": z, "log_weights": recency.position, "log_gaps": recency.gap}
    known = np.ones(len(z), np.bool_) if learned is None else learned
    return ModelState(z, recency, known, parameters, trained_upto=UPTO)


def vectors(rng: np.random.Generator) -> NDArray[np.float32]:
    return unit_rows(rng.standard_normal((ITEMS, 8)).astype(np.float32))


def stream(items: NDArray[np.int64], users: int = 500) -> Interactions:
    """Users in turn, each event a new item of its user."""
    return interactions(np.arange(len(items)) % users, items, items=ITEMS)


def fashions(rng: np.random.Generator, length: int, events: int) -> NDArray[np.int64]:
    """Thirty items are in fashion at a time, for so many events, and nothing else matters."""
    phases = [rng.choice(ITEMS, 30, replace=False) for _ in range(-(-events // length))]
    return np.concatenate([rng.choice(phase, length) for phase in phases])[:events]


@pytest.mark.parametrize(("length", "short"), [(500, True), (6000, False)])
def test_where_fashion_is_all_its_weight_is_high_and_its_half_life_the_fashions(
    length: int, short: bool
) -> None:
    rng = np.random.default_rng(0)
    config = CONFIG.model_copy(update={"popularity_half_lives": (100.0, 3000.0)})
    found = calibrate(stream(fashions(rng, length, 6000)), state(vectors(rng)), {}, config, 1)
    assert found.terms.weight >= 0.2
    assert (found.terms.half_life == 100.0) == short


def test_where_the_last_item_tells_the_next_popularity_has_no_weight() -> None:
    rng = np.random.default_rng(0)
    z = vectors(rng)
    near = np.argsort(-(z @ z.T), axis=1)[:, 1:30]
    last, items = rng.integers(0, ITEMS, 500), np.zeros(6000, np.int64)
    crowd = np.arange(10)
    for e in range(6000):
        user = e % 500
        loud = rng.random() < 0.3 and e < UPTO  # popular before, and never asked for again
        items[e] = rng.choice(crowd) if loud else rng.choice(near[last[user]])
        last[user] = items[e]
    config = CONFIG.model_copy(update={"popularity_weight": 0.2})
    assert calibrate(stream(items), state(z), {}, config, 1).terms.weight < 0.05


def arrivals(rng: np.random.Generator, share: float) -> tuple[Interactions, Features]:
    """Forty of the items are new, and so large a part of what is asked for after the version."""
    known = rng.integers(0, ITEMS - 40, 6000)
    new = rng.integers(ITEMS - 40, ITEMS, 6000)
    at = np.arange(6000)
    text = Features(rng.standard_normal((ITEMS, 5)).astype(np.float32), np.ones(ITEMS, np.bool_))
    return stream(np.where((at >= UPTO) & (rng.random(6000) < share), new, known)), text


@pytest.mark.parametrize(("share", "sign"), [(0.8, 1), (0.0, -1)])
def test_novelty_is_worth_what_is_asked_for_of_it(share: float, sign: int) -> None:
    rng = np.random.default_rng(0)
    data, text = arrivals(rng, share)
    version = state(vectors(rng)[: ITEMS - 40])
    config = CONFIG.model_copy(update={"cold_map": False, "novelty_price": 1.0})
    found = calibrate(data, version, {"text": text}, config, 1)
    assert np.sign(found.terms.bias) == sign
    cheap = calibrate(data, version, {"text": text}, CONFIG, 1)
    assert cheap.terms.bias <= found.terms.bias
    paid = dict(zip(cheap.warm.tried[:, 0].tolist(), cheap.warm.mean.tolist(), strict=True))
    assert paid[cheap.terms.bias] >= -0.02
    assert calibrate(data, version, {}, CONFIG, 1).terms.bias == 0.0


def test_evidence_is_kept_and_fades_and_without_it_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    data, version = stream(fashions(rng, 500, 6000)), state(vectors(rng))
    once = calibrate(data, version, {}, CONFIG, 1)
    twice = calibrate(data, replace(version, calibration=once), {}, CONFIG, 1)
    q = once.popularity.questions
    assert twice.popularity.questions == pytest.approx(q * (1 + 0.5 ** (q / 5000)))
    nobody = calibrate(data, replace(version, trained_upto=6000, calibration=once), {}, CONFIG, 1)
    assert nobody.terms == once.terms
    assert nobody.popularity.questions == q
    off = CONFIG.model_copy(update={"calibration_events": 0})
    assert calibrate(data, version, {}, off, 1).terms == Terms(0.05, 5000.0)
    other = CONFIG.model_copy(update={"popularity_weights": (0.3,)})
    changed = calibrate(data, replace(version, calibration=once), {}, other, 1)
    assert changed.popularity.questions == q
    assert len(changed.popularity.gain) == 2 + len(CONFIG.popularity_half_lives)


def test_a_gain_counts_only_as_far_as_it_is_sure() -> None:
    tried = np.array([[0.0], [1.0], [2.0]])
    few = nothing(tried).more(np.array([[0.0, 1.0, 0.0], [0.0, -0.9, 0.0]]), 1e9)
    assert few.surest.tolist() == [0.0]
    many = nothing(tried).more(np.tile([[0.0, 0.1, 0.05]], (100, 1)), 1e9)
    assert many.surest.tolist() == [1.0]
    assert nothing(tried).surest.tolist() == [0.0]


def test_the_version_is_asked_as_it_was_served() -> None:
    rng = np.random.default_rng(2)
    data = stream(rng.integers(0, ITEMS, 6000))
    version = state(vectors(rng))
    served = Terms(0.3, 700.0, 0.0)
    config = CONFIG.model_copy(update={"popularity_half_lives": (700.0,)})
    round_ = Round(data, version, {}, served, config)
    rows = round_.sample(1, np.random.default_rng(0))
    found, _ = round_.gains(rows, np.array([[0.3, 700.0]]), np.zeros((1, 1)))
    order = np.argsort(data.sequence)
    before = order[: data.sequence[rows[0]]]
    # Masses as of the version, the floor with them: what came since counts the more.
    ages = UPTO - 1 - np.arange(len(before))
    mass = np.bincount(data.item[before], 2.0 ** (-ages / 700), ITEMS)
    user = data.owners()[rows[0]]
    had = data.item[data.indptr[user] : rows[0]]
    scores = version.items @ version.items[had[-1]] + 0.3 * np.log(mass + 0.5)
    bar = scores[data.item[rows[0]]]
    scores[had] = -np.inf
    assert found[0, 0] == pytest.approx(1 / (1 + ((1 + (scores > bar).sum()) / 20) ** 1.5))
    assert (scores > bar).sum() > 0


def test_a_calibration_comes_back_from_its_arrays() -> None:
    rng = np.random.default_rng(0)
    was = calibrate(stream(fashions(rng, 500, 6000)), state(vectors(rng)), {}, CONFIG, 1)
    now = Calibration.from_arrays(was.arrays())
    assert now.terms == was.terms
    for name, array in was.arrays().items():
        np.testing.assert_array_equal(now.arrays()[name], array)
