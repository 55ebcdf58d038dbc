"""What holds a fine-tune to what was learned before, against its definitions and on a stream."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.data import interactions
from model.encoder import Encoder
from model.forgetting import anchor_loss, distillation_loss, remember
from model.recency import GAPS
from model.sides import Head
from model.trainer import finetune

ITEMS, DIM = 12, 8
CONFIG = ModelConfig(
    replay_kind="uniform",
    dim=DIM,
    context=6,
    half_lives=(3, 6),
    batch=32,
    first_epochs=20,
    rate=0.05,
    epochs=8,
    replay=1.0,
)


def encoder(seed: int) -> Encoder:
    generator = torch.Generator().manual_seed(seed)
    return Encoder(
        torch.randn(ITEMS, DIM, generator=generator),
        torch.randn(2, 6, generator=generator),
        torch.randn(2, GAPS, generator=generator),
        torch.tensor(np.log(0.2)),
        sides={"text": Head(torch.randn(3, DIM, generator=generator), torch.ones(ITEMS, 3))},
    )


def test_an_anchor_weighs_moves_by_what_was_learned() -> None:
    made = encoder(0)
    counts = np.zeros(ITEMS, np.int64)
    counts[:2] = 3, 1
    memory = remember(made, counts)
    assert anchor_loss(made.items(), memory).item() == 0
    with torch.no_grad():
        made.embedding[0] = 5 * torch.randn(DIM)
        made.embedding[7] = 5 * torch.randn(DIM)
    moved = made.items().detach()
    apart = float(((moved[0] - memory.items[0]) ** 2).sum())
    assert anchor_loss(moved, memory).item() == pytest.approx(0.75 * apart, rel=1e-5)


def test_distillation_is_the_mean_divergence_of_replayed_rows() -> None:
    old, new = encoder(0), encoder(1)
    memory = remember(old, np.ones(ITEMS, np.int64))
    history = torch.tensor([[1, 2, 3], [4, 5, -1], [6, -1, -1]])
    gap, among = torch.zeros(3, 3, dtype=torch.long), torch.tensor([0, 7, 8, 9])
    replayed = torch.tensor([True, False, True])

    def loss(said: Encoder, rows: torch.Tensor) -> float:
        items = said.items()
        found = distillation_loss(
            said.users(items, history, gap), items, memory,
            history=history, gap=gap, among=among, replayed=rows, temperature=torch.tensor(0.2),
        )  # fmt: skip
        return found.item()

    def chances(said: Encoder) -> torch.Tensor:
        items = said.items()
        return (said.users(items, history, gap) @ items[among].T / 0.2).softmax(1)

    before, after = chances(old).detach(), chances(new).detach()
    each = (before * (before.log() - after.log())).sum(1)
    assert loss(new, replayed) == pytest.approx(float(each[[0, 2]].mean()), rel=1e-4)
    assert loss(old, replayed) == pytest.approx(0, abs=1e-6)
    assert loss(new, torch.zeros(3, dtype=torch.bool)) == 0


@pytest.mark.parametrize("held", [{"anchor_weight": 30.0}, {"distillation_weight": 10.0}])
def test_both_hold_a_finetune_to_what_was_learned(held: Mapping[str, float]) -> None:
    rng = np.random.default_rng(0)
    user, item = np.tile(np.arange(20), 9), rng.integers(0, ITEMS, 180)
    old = interactions(user[:120], item[:120], items=ITEMS, users=20)
    new = interactions(user, item, items=ITEMS)
    first = finetune(old, config=CONFIG, seed=1, threads=1).state

    def moved(config: ModelConfig) -> float:
        report = finetune(new, previous=first, config=config, seed=2, threads=1).report
        assert report.turn is not None
        return report.turn.moved

    free = moved(CONFIG)
    assert moved(CONFIG.model_copy(update=held)) < 0.7 * free
