"""The spaces brought together: what each term is, and how a broken one is found out in training."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import objective, sides, trainer, warm_start
from model.config import ModelConfig
from model.data import Features, unit_rows
from model.divergence import divergence, transport_value
from model.encoder import Encoder
from model.losses import contrastive_loss
from model.objective import Objective
from model.recency import GAPS
from model.sides import Carried, Head
from model.trainer import finetune
from model.transport import Coupling
from tests.model.planted import CONFIG, ITEMS, split

IDS = torch.arange(0, 30)


def planted(width: int, seed: int, missing: int = 0) -> Features:
    """Vectors that tell items apart within their clusters, and so little of what is clicked."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((ITEMS, width)).astype(np.float32)
    return Features(vectors, np.arange(ITEMS) >= missing)


def learned(**changes: Any) -> dict[str, NDArray[np.float32]]:
    """Own vectors and images after learning, by space, at length 1."""
    config = CONFIG.model_copy(update=changes)
    features = {"text": planted(48, 8), "image": planted(20, 9, missing=60)}
    state = finetune(split()[0], features=features, config=config, seed=1, threads=1).state
    found = {"id": unit_rows(state.parameters["embedding"])}
    for name, given in features.items():
        found[name] = unit_rows(given.normalised() @ state.parameters[f"sides.{name}.weight"])
    return found


def gaps(spaces: dict[str, NDArray[np.float32]]) -> list[float]:
    """Mean squared distance of the pairs of each two spaces, where both are."""
    both = slice(60, None)
    return [
        float(np.mean(np.sum((one[both] - other[both]) ** 2, axis=1)))
        for one, other in combinations(spaces.values(), 2)
    ]


@pytest.fixture(scope="module")
def apart() -> list[float]:
    return gaps(learned())


def test_contrast_brings_each_two_spaces_together(apart: list[float]) -> None:
    together = gaps(learned(contrastive_weight=1.0))
    assert len(together) == 3
    for near, far in zip(together, apart, strict=True):
        assert near < 0.6 * far


def test_contrast_with_the_wrong_sign_drives_them_apart(
    apart: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def climb(*args: Any, **rest: Any) -> Tensor:
        return 1.0 - contrastive_loss(*args, **rest)

    monkeypatch.setattr(objective, "contrastive_loss", climb)
    for far, was in zip(gaps(learned(contrastive_weight=1.0)), apart, strict=True):
        assert far > was


def dimensions(rows: NDArray[np.float32]) -> float:
    """In how many directions a cloud spreads: (Σ λ)²/Σ λ² of its covariance."""
    spectrum = np.linalg.eigvalsh(np.cov(rows.T))
    return float(spectrum.sum() ** 2 / (spectrum**2).sum())


def _with_bias(x: Tensor, y: Tensor, **rest: Any) -> Tensor:
    return transport_value(x, y, **rest)


@pytest.mark.parametrize(("loss", "kept"), [(divergence, True), (_with_bias, False)])
def test_transported_spaces_keep_their_width_only_without_the_bias(
    loss: Callable[..., Tensor], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "divergence", loss)
    spaces = learned(transport_weight=10.0)
    assert (dimensions(spaces["text"]) > 3) is kept


def test_transport_brings_the_laws_together() -> None:
    reports = [
        finetune(
            split()[0],
            features={"text": planted(48, 8)},
            config=CONFIG.model_copy(update={"transport_weight": weight}),
            seed=1,
            threads=1,
        ).report.alignment["text"]
        for weight in (0.0, 1.0)
    ]
    assert reports[1].divergence < 0.7 * reports[0].divergence
    assert reports[1].gap.wasserstein_high < reports[0].gap.wasserstein_low


def _unscaled(z: Tensor, coupling: Coupling) -> Tensor:
    return coupling.apply_transposed(z.T).T


@pytest.mark.parametrize(("carry", "alive"), [(sides.carry, True), (_unscaled, False)])
def test_what_the_coupling_carries_counts_beside_what_is_learned(
    carry: Callable[[Tensor, Coupling], Tensor], alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Encoder] = []

    def begin(*args: Any, **rest: Any) -> Encoder:
        made.append(warm_start.begin(*args, **rest))
        return made[-1]

    monkeypatch.setattr(trainer, "begin", begin)
    monkeypatch.setattr(sides, "carry", carry)
    learned(transport_weight=0.1, transport_level="dimension", first_epochs=2)
    side = made[-1].side("text")
    assert isinstance(side, Carried)
    with torch.no_grad():
        z = Head.vectors(side)
        share = float((z @ side.plan).norm() / (z @ side.shift).norm())
    assert (share > 0.1) is alive


def test_what_is_carried_turns_with_its_items_when_all_is_learned_anew() -> None:
    config = CONFIG.model_copy(
        update={"transport_weight": 0.1, "transport_level": "dimension", "first_epochs": 1}
    )
    given = {
        "text": planted(48, 8),
        "image": Features(np.zeros((ITEMS, 3), "f4"), np.ones(ITEMS, bool)),
    }
    first = finetune(split()[0], features=given, config=config, seed=1, threads=1).state
    again = finetune(
        split()[0], features=given, previous=first, config=config, seed=2, threads=1, anew=True
    )
    assert again.report.turn is not None
    assert again.report.turn.degrees < 1
    assert again.report.turn.moved == pytest.approx(again.report.turn.residual, abs=1e-3)


def encoder(*sides_: Head) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    names = ("text", "image")[: len(sides_)]
    return Encoder(
        torch.randn(40, 4, generator=generator),
        torch.zeros(1, 1),
        torch.zeros(1, GAPS),
        torch.tensor(0.0),
        sides=dict(zip(names, sides_, strict=True)),
    )


def head(seed: int) -> Head:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(40, 5, generator=generator))
    rows[::7] = 0
    return Head(torch.randn(5, 4, generator=generator), rows)


def terms(made: Encoder, **config: Any) -> Objective:
    return Objective(made, ModelConfig(dim=4, **config), np.random.default_rng(0))


def test_nothing_is_added_where_all_is_off_or_absent() -> None:
    made = encoder(head(1))
    assert float(terms(made).terms(IDS)) == 0
    alone = encoder()
    on = terms(alone, contrastive_weight=1.0, transport_weight=1.0)
    assert float(on.terms(IDS)) == 0


def test_the_memory_holds_items_of_earlier_steps_as_they_are_now() -> None:
    made = encoder(head(1))
    remembering = terms(made, contrastive_weight=1.0, contrastive_memory=20)
    first, second = torch.arange(0, 12), torch.arange(8, 16)
    remembering.terms(first)
    with torch.no_grad():
        made.side("text").into_items()[0].mul_(-1)
    found = remembering.terms(second)
    rows = made.beside()["text"]
    present = rows.any(1)
    expected = contrastive_loss(
        made.embedding[second],
        rows[second],
        present[second],
        temperature=0.2,
        further=rows[torch.arange(0, 8)],
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    forgetful = terms(made, contrastive_weight=1.0)
    forgetful.terms(first)
    assert forgetful.terms(second).item() < found.item()


def test_a_learned_contrast_finds_its_temperature() -> None:
    learning = {"contrastive_weight": 1.0, "contrastive_temperature_learned": True}
    for changes, moved in ((learning, True), ({"contrastive_weight": 1.0}, False)):
        config = CONFIG.model_copy(update={**changes, "first_epochs": 1})
        features = {"text": planted(48, 8)}
        state = finetune(split()[0], features=features, config=config, seed=1, threads=1).state
        start = np.log(config.contrastive_temperature)
        assert bool(abs(state.parameters["log_contrast"] - start) > 0.05) is moved


def test_a_step_goes_on_from_the_potentials_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counted(*args: Any, **rest: Any) -> Coupling:
        found = solve(*args, **rest)
        steps.append(found.iterations)
        return found

    solve = objective.solve
    monkeypatch.setattr(objective, "solve", counted)
    made = encoder(head(1))
    going_on = terms(made, transport_weight=1.0, transport_batch=20)
    for ids in (IDS, IDS, torch.arange(5, 35)):
        torch.autograd.backward([going_on.terms(ids)])
    assert len(steps) == 3
    assert float(going_on.terms(torch.tensor([1]))) == 0  # one is no cloud
    assert made.embedding.grad is not None
    alone = terms(made, transport_weight=1.0)
    for _ in range(2):
        alone.terms(IDS)
    assert steps[-1] <= 1 < steps[-2]
