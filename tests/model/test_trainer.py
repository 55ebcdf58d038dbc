"""Learning with a planted answer, and how a trainer that is broken misses it."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import replay, sampling, trainer, warm_start
from model.config import ModelConfig
from model.data import Features, Interactions, interactions
from model.encoder import TEMPERATURES, Encoder
from model.errors import InvalidInput, TrainingFailed
from model.losses import softmax_loss
from model.recency import GAPS
from model.replay import choose, unlearned
from model.state import ModelState
from model.trainer import FineTuned, finetune
from tests.model.planted import BOUND, CONFIG, ITEMS, USERS, learn, recall, split, stream


@pytest.fixture(scope="module")
def learned() -> ModelState:
    return learn()


def test_the_planted_answer_is_found(learned: ModelState) -> None:
    assert recall(learned) >= BOUND


def test_weights_learn_that_the_last_event_counts_most(learned: ModelState) -> None:
    for weights in learned.recency.position:
        assert weights[0] > 1.3 * weights[4] > 1.3 * weights[9]
    assert learned.recency.position.sum() == pytest.approx(1.0, abs=1e-5)


def _no_zero_grad(patch: pytest.MonkeyPatch) -> None:
    def keep(_: torch.optim.Optimizer, set_to_none: bool = True) -> None:
        del set_to_none

    patch.setattr(torch.optim.Adam, "zero_grad", keep)


def _wrong_sign(patch: pytest.MonkeyPatch) -> None:
    def climb(users: Tensor, items: Tensor, **rest: Any) -> Tensor:
        return -softmax_loss(users, items, **rest)

    patch.setattr(trainer, "softmax_loss", climb)


def _others_contexts(patch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)

    def shuffled(
        data: Interactions, starts: NDArray[np.int64], row: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        return sampling.contexts(data, starts, rng.permutation(row), length)

    patch.setattr(trainer, "contexts", shuffled)


def _frozen_table(patch: pytest.MonkeyPatch) -> None:
    def frozen(*args: Any, **named: Any) -> Encoder:
        made = warm_start.begin(*args, **named)
        made.embedding.requires_grad_(False)
        return made

    patch.setattr(trainer, "begin", frozen)


def _no_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim.Adam, "step", lambda _: None)


def _targets_of_others(patch: pytest.MonkeyPatch) -> None:
    def unaligned(users: Tensor, items: Tensor, *, target: Tensor, **rest: Any) -> Tensor:
        return softmax_loss(users, items, target=target.roll(1), **rest)

    patch.setattr(trainer, "softmax_loss", unaligned)


@pytest.mark.parametrize(
    "broken",
    [_no_zero_grad, _wrong_sign, _others_contexts, _frozen_table, _no_step, _targets_of_others],
)
def test_a_broken_trainer_misses_the_bound(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert recall(learn()) < BOUND


def test_the_same_seed_gives_the_same_bits(learned: ModelState) -> None:
    again = learn()
    np.testing.assert_array_equal(again.items, learned.items)
    np.testing.assert_array_equal(again.recency.position, learned.recency.position)
    other = finetune(split()[0], config=CONFIG, seed=2, threads=1).state
    assert not np.array_equal(other.items, learned.items)


def test_two_threads_give_the_same_bits_again() -> None:
    short = CONFIG.model_copy(update={"first_epochs": 1})
    first, second = (
        finetune(split()[0], config=short, seed=1, threads=2).state.items for _ in range(2)
    )
    torch.set_num_threads(1)
    np.testing.assert_array_equal(first, second)


def test_it_runs_in_a_spawned_process(learned: ModelState) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        far = pool.submit(_items_elsewhere, split()[0], CONFIG.model_dump_json()).result()
    np.testing.assert_array_equal(far, learned.items)


def _items_elsewhere(data: Interactions, config: str) -> NDArray[np.float32]:
    parsed = ModelConfig.model_validate_json(config)
    return finetune(data, config=parsed, seed=1, threads=1).state.items


def test_a_later_finetune_learns_the_new_and_goes_on_from_the_old() -> None:
    user, item = stream()
    half = len(user) // 2
    before = interactions(user[:half], item[:half], items=ITEMS, users=USERS)
    early = finetune(before, config=CONFIG, seed=1)
    data = split()[0]
    late = finetune(data, previous=early.state, config=CONFIG, seed=2)
    assert early.state.trained_upto == half
    assert late.state.trained_upto == len(data)
    new = np.count_nonzero(replay.learnable(data) & (data.sequence >= half))
    assert late.report.fresh == new
    old = np.count_nonzero(replay.learnable(data) & (data.sequence < half))
    assert late.report.replayed == min(old, 2 * new)
    assert late.state.steps == early.state.steps + late.report.steps
    assert recall(late.state) >= max(BOUND, recall(early.state) - 0.05)


def test_a_vocabulary_that_grows_keeps_what_was_learned() -> None:
    data = split()[0]
    before = finetune(data, config=CONFIG, seed=1).state
    rest = {name: getattr(data, name) for name in data.__slots__ if name != "items"}
    grown = finetune(Interactions(**rest, items=ITEMS + 7), previous=before, config=CONFIG, seed=1)
    assert grown.report.fresh == grown.report.steps == 0
    assert grown.report.first_loss is None
    np.testing.assert_array_equal(grown.state.items[:ITEMS], before.items)
    assert not grown.state.items[ITEMS:].any()
    for name in ("embedding.first", "embedding.second"):
        moments = grown.state.moments[name]
        np.testing.assert_array_equal(moments[:ITEMS], before.moments[name])
        assert before.moments[name].any()
        assert moments[ITEMS:].shape == (7, CONFIG.dim)
        assert not moments[ITEMS:].any()
    assert grown.state.steps == before.steps


def test_nothing_at_all_is_a_version_of_nothing() -> None:
    empty = interactions(np.zeros(0, np.int64), np.zeros(0, np.int64), items=3)
    made = finetune(empty, config=CONFIG, seed=1)
    assert made.report.fresh == made.state.trained_upto == 0
    assert not made.state.items.any()


def test_impressions_are_neither_targets_nor_context() -> None:
    user, item = np.zeros(6, np.int64), np.arange(6)
    positive = np.array([True, False, True, False, True, False])
    made = finetune(interactions(user, item, items=6, positive=positive), config=CONFIG, seed=1)
    assert made.report.fresh == 2
    np.testing.assert_array_equal(made.state.learned, positive)
    assert made.state.trained_upto == 6


def test_what_does_not_fit_is_refused(learned: ModelState) -> None:
    data = split()[0]
    with pytest.raises(InvalidInput, match="start anew"):
        finetune(data, previous=learned, config=CONFIG.model_copy(update={"dim": 16}), seed=1)
    small = interactions(np.zeros(2, np.int64), np.arange(2), items=2)
    with pytest.raises(InvalidInput, match="only grows"):
        finetune(small, previous=learned, config=CONFIG, seed=1)
    text = Features(np.ones((3, 4), np.float32), np.ones(3, np.bool_))
    with pytest.raises(InvalidInput, match="modalities are text, image"):
        finetune(small, features={"sound": text}, config=CONFIG, seed=1)
    with pytest.raises(InvalidInput, match="text names 3 items"):
        finetune(small, features={"text": text}, config=CONFIG, seed=1)
    two = Features(np.ones((2, 4), np.float32), np.ones(2, np.bool_))
    headed = finetune(small, features={"text": two}, config=CONFIG, seed=1).state
    five = Features(np.ones((2, 5), np.float32), np.ones(2, np.bool_))
    with pytest.raises(InvalidInput, match="embedder"):
        finetune(small, features={"text": five}, previous=headed, config=CONFIG, seed=1)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    user, item = np.zeros(4, np.int64), np.arange(4)
    weight = np.full(4, 3e38, np.float32)
    with pytest.raises(TrainingFailed, match="learning rate"):
        finetune(interactions(user, item, items=4, weight=weight), config=CONFIG, seed=1)


def test_steps_shorten_by_the_root_of_the_share_that_is_new(
    learned: ModelState, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    adam = torch.optim.Adam

    def watched(parameters: Any, lr: float) -> torch.optim.Adam:
        steps.append(lr)
        return adam(parameters, lr=lr)

    monkeypatch.setattr(torch.optim, "Adam", watched)
    user, item = stream()
    grown = interactions(user, item, items=ITEMS)
    config = CONFIG.model_copy(update={"epochs": 1})
    for previous, anew in ((None, False), (learned, False), (learned, True)):
        finetune(grown, previous=previous, config=config, seed=1, threads=1, anew=anew)
    targets = choose(grown, unlearned(grown, learned.trained_upto, None), config.replay)
    whole = config.rate
    assert steps == [whole, pytest.approx(whole * targets.share_new**0.5), whole]
    assert 0.1 < targets.share_new**0.5 < 0.5


def test_the_temperature_is_learned_unless_it_is_fixed(learned: ModelState) -> None:
    assert float(learned.parameters["log_temperature"]) != pytest.approx(np.log(0.15), abs=0.05)
    short = CONFIG.model_copy(update={"first_epochs": 1, "temperature_learned": False})
    assert float(learn(short).parameters["log_temperature"]) == pytest.approx(np.log(0.15))


def test_all_learned_anew_stands_where_it_stood(
    learned: ModelState, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = split()[0]

    def anew() -> FineTuned:
        return finetune(data, previous=learned, config=CONFIG, seed=9, threads=1, anew=True)

    again = anew()
    assert again.report.replayed == 0
    assert again.report.turn is not None
    assert again.report.turn.degrees < 1
    assert again.report.turn.moved == pytest.approx(again.report.turn.residual, abs=1e-3)
    assert recall(again.state) >= BOUND
    for name in ("embedding.first", "embedding.second"):
        assert again.state.moments[name].shape == (ITEMS, CONFIG.dim)
    monkeypatch.setattr(trainer, "turn_back", lambda *_: None)
    elsewhere = anew()
    assert elsewhere.report.turn is not None
    assert elsewhere.report.turn.moved > again.report.turn.moved + 0.2
    assert elsewhere.report.turn.residual == pytest.approx(again.report.turn.residual, abs=1e-3)
    np.testing.assert_allclose(
        again.state.items @ again.state.items.T,
        elsewhere.state.items @ elsewhere.state.items.T,
        atol=1e-4,
    )


def test_items_that_are_gone_say_nothing_of_the_turn(learned: ModelState) -> None:
    data = split()[0]
    kept = data.item < ITEMS // 2
    indptr = np.concatenate([[0], np.cumsum(kept)])[data.indptr]
    columns = ("item", "time_us", "weight", "sequence", "positive")
    half = Interactions(indptr, *(getattr(data, name)[kept] for name in columns), items=ITEMS)
    again = finetune(half, previous=learned, config=CONFIG, seed=9, threads=1, anew=True)
    assert again.report.turn is not None
    assert again.report.turn.rows == ITEMS // 2
    assert again.report.turn.degrees < 1


@pytest.mark.parametrize(("start", "learned_too"), [(5.0, False), (5.0, True), (0.001, True)])
def test_only_a_learned_temperature_has_bounds(start: float, learned_too: bool) -> None:
    encoder = Encoder(
        torch.zeros(2, 2), torch.zeros(1, 1), torch.zeros(1, GAPS), torch.tensor(np.log(start))
    )
    encoder.log_temperature.requires_grad_(learned_too)
    encoder.bound_temperature()
    bound = min(max(start, TEMPERATURES[0]), TEMPERATURES[1]) if learned_too else start
    assert encoder.temperature.item() == pytest.approx(bound, rel=1e-5)
