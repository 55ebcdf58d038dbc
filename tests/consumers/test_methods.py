import numpy as np

from consumers.dataset import Past, dataset
from consumers.methods import Goat, Question
from model.arrivals import among
from model.config import ModelConfig
from model.coordinate import Coordinate
from model.data import Features
from model.fold_in import fold_in


def test_ours_adds_what_the_live_path_serves() -> None:
    rng = np.random.default_rng(4)
    n = 400
    text = Features(rng.standard_normal((40, 6)).astype(np.float32), np.arange(40) != 7)
    # Items come one by one, the last ten after the version, and are announced as they come.
    item = np.minimum(rng.integers(0, 30, n), np.arange(n) // 8)
    item[300:] = np.where(rng.random(100) < 0.3, 30 + np.arange(100) // 10, item[300:])
    data = dataset(rng.integers(0, 20, n), item, np.arange(n) * 10**6, features={"text": text})
    config = ModelConfig(dim=8, half_lives=(2.0,), first_epochs=1, epochs=1, calibration_events=20)
    method, past = Goat(config, 3), Past(data)
    method.learn(data, 200)
    method.learn(data, 300)
    event = np.arange(390, 395)
    found = method.scores(Question(event, data.user[event], past, told=390))
    state = method.state
    assert state is not None
    assert state.calibration is not None
    assert state.calibration.popularity.questions > 0
    last, size = Coordinate(config), len(state.items)
    last.update(data.item[:300], size)
    last.adopt(state)
    items = np.zeros((40, 8), np.float32)
    items[:size] = state.items
    learned, new = (np.zeros(40, np.bool_) for _ in range(2))
    learned[:size], new[size:] = state.learned, True
    last.update(data.item[300:390], 40)
    put = among({"text": text}, learned, new, items, last.counts(), config=config)
    items[new] = put.vectors[new]
    last.place(np.flatnonzero(new), put.counts[new])
    users = fold_in(items, state.recency, *past.context(event, state.recency.length))
    known = data.vocabulary(390)
    np.testing.assert_allclose(
        found[:, :known], (users @ items.T + last.of(40))[:, :known], rtol=1e-4
    )
    assert found[:, size:known].any()
