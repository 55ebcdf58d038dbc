"""Losses against their definitions, and the bound that the contrastive one gives."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from model.bounds import gap_bound
from model.errors import InvalidInput
from model.losses import contrastive_loss, softmax_loss


def test_a_negative_that_is_the_target_does_not_count_against_it() -> None:
    items = torch.eye(3)
    users = torch.eye(3)[:1]
    common: dict[str, Any] = {
        "target": torch.tensor([0]),
        "weight": torch.ones(1),
        "temperature": torch.tensor(1.0),
    }
    with_it = softmax_loss(users, items, negatives=torch.tensor([0, 1, 2]), **common)
    without = softmax_loss(users, items, negatives=torch.tensor([1, 2]), **common)
    assert with_it.item() == pytest.approx(without.item())
    assert without.item() == pytest.approx(float(np.log(1 + 2 * np.exp(-1.0))))


def test_an_event_counts_by_its_weight() -> None:
    rng = np.random.default_rng(0)
    users, items = torch.randn(4, 3), torch.randn(6, 3)
    weight = torch.from_numpy(rng.random(4).astype(np.float32))
    common: dict[str, Any] = {"negatives": torch.tensor([1, 2]), "temperature": torch.tensor(1.0)}
    target = torch.tensor([0, 3, 4, 5])
    each = [
        softmax_loss(users[n : n + 1], items, target=target[n : n + 1], weight=one, **common).item()
        for n, one in enumerate(torch.ones(4, 1))
    ]
    whole = softmax_loss(users, items, target=target, weight=weight, **common).item()
    assert whole == pytest.approx(float(np.average(each, weights=weight.numpy())), rel=1e-5)


def spaces(seed: int, size: int, spread: float, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows, and the same moved by noise."""
    generator = torch.Generator().manual_seed(seed)
    one = functional.normalize(torch.randn(size, dim, generator=generator))
    noise = torch.randn(size, dim, generator=generator)
    return one, functional.normalize(one + spread * noise)


def test_contrast_is_its_definition() -> None:
    one, other = spaces(0, 7, 0.8)
    scores = (one @ other.T / 0.3).double()
    rows = [torch.logsumexp(scores[n], 0) - scores[n, n] for n in range(7)]
    found = contrastive_loss(one * 3, other * 0.1, torch.ones(7, dtype=torch.bool), temperature=0.3)
    assert found.item() == pytest.approx(float(sum(rows)) / 7, rel=1e-5)


def test_what_is_missing_is_neither_positive_nor_negative() -> None:
    one, other = spaces(1, 6, 0.5)
    present = torch.tensor([True, False, True, True, False, True])
    masked = contrastive_loss(one, other, present, temperature=0.2)
    kept = contrastive_loss(
        one[present], other[present], torch.ones(4, dtype=torch.bool), temperature=0.2
    )
    assert masked.item() == pytest.approx(kept.item(), rel=1e-6)


def test_further_rows_are_negatives_of_every_anchor_unless_they_are_nothing() -> None:
    one, other = spaces(4, 9, 0.5)
    further = torch.cat([other[6:] * 5, torch.zeros(2, 6)])
    every = torch.ones(6, dtype=torch.bool)
    scores = (one[:6] @ other.T / 0.3).double()
    expected = (torch.logsumexp(scores, 1) - scores.diagonal()).mean()
    found = contrastive_loss(one[:6], other[:6], every, temperature=0.3, further=further)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_one_item_has_nothing_to_be_told_from(count: int) -> None:
    one, other = (rows.requires_grad_() for rows in spaces(2, 3, 0.5))
    loss = contrastive_loss(one, other, torch.arange(3) < count, temperature=0.2)
    torch.autograd.backward([loss])
    assert loss.item() == 0
    assert one.grad is not None
    assert not one.grad.any()


def test_descending_brings_pairs_together() -> None:
    one, other = spaces(3, 20, 3.0)
    moving = other.clone().requires_grad_()
    optimiser = torch.optim.SGD([moving], lr=0.5)
    for _ in range(50):
        optimiser.zero_grad()
        torch.autograd.backward(
            [contrastive_loss(one, moving, torch.ones(20, dtype=torch.bool), temperature=0.2)]
        )
        optimiser.step()
    before = (one * other).sum(1).mean()
    after = (one * functional.normalize(moving.detach())).sum(1).mean()
    assert after > before + 0.3


def rowwise(one: torch.Tensor, other: torch.Tensor, temperature: float) -> np.ndarray:
    """Loss of each row, float64[B]."""
    scores = one.double() @ other.double().T / temperature
    # Not a difference of logarithms: of rows that agree that would be 0, and prove a gap of 0.
    excess = (scores - scores.diagonal()[:, None]).exp()
    return torch.log1p(excess.sum(1) - excess.diagonal()).numpy()


@given(
    seed=st.integers(0, 2**31),
    size=st.integers(2, 40),
    spread=st.floats(0, 5),
    temperature=st.floats(0.05, 2),
)
def test_the_loss_bounds_the_gap(seed: int, size: int, spread: float, temperature: float) -> None:
    one, other = spaces(seed, size, spread)
    gap = float(((one - other).double() ** 2).sum(1).mean())
    loss = float(rowwise(one, other, temperature).mean())
    assert gap <= gap_bound(loss, size, temperature) + 1e-4


def test_the_bound_is_reached_where_all_others_are_opposite() -> None:
    """Two items, their partners exchanged up to sign: every inequality of the proof is tight."""
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    for other in (one, -one):
        gap = float(((one - other) ** 2).sum(1).mean())
        loss = float(rowwise(one, other, 0.5).mean())
        assert gap_bound(loss, 2, 0.5) == pytest.approx(gap, abs=1e-5)


def test_the_lower_bound_is_no_upper_bound() -> None:
    """The counterexample of docs/theory.md to reading the inequality the other way round.

    With every s_ij <= 1 one gets t >= 2τ·log((e^L - 1)/(B - 1)). As an upper bound it is wrong
    as soon as the negatives are not all as near as can be: here even its sign is.
    """
    angle = 0.3
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    other = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.cos(angle), np.sin(angle)]]).float()
    temperature = 0.2
    gap = ((one - other) ** 2).sum(1).numpy()
    claimed = 2 * temperature * np.log(np.expm1(rowwise(one, other, temperature)))
    assert (claimed < 0).all()
    assert (gap > 0).all()
    assert (gap >= claimed).all()
    assert (gap <= 4 + claimed).all()


def test_a_bound_needs_two_rows_and_a_temperature() -> None:
    with pytest.raises(InvalidInput, match="at least 2"):
        gap_bound(1.0, 1, 0.2)
    with pytest.raises(InvalidInput, match="temperature"):
        gap_bound(1.0, 2, 0.0)
    assert gap_bound(0.0, 8, 0.2) == 0.0
    assert gap_bound(1e9, 8, 0.2) == 4.0


def test_what_is_added_is_a_coordinate_of_the_items() -> None:
    made = torch.Generator().manual_seed(2)
    users, items = torch.randn(4, 3, generator=made), torch.randn(9, 3, generator=made)
    term = torch.randn(9, 1, generator=made)
    target, negatives = torch.tensor([0, 3, 4, 5]), torch.tensor([1, 2, 3])
    passed = (torch.tensor([[6, 7], [7, 8], [8, 4], [6, 8]]), torch.rand(4, 2, generator=made))
    common: dict[str, Any] = {
        "target": target,
        "negatives": negatives,
        "weight": torch.ones(4),
        "temperature": torch.tensor(0.4),
        "passed": passed,
    }
    each = torch.cat([target[:, None], negatives.expand(4, 3), passed[0]], dim=1)
    found = softmax_loss(users, items, added=term[:, 0][each], **common)
    longer = torch.cat([users, torch.ones(4, 1)], 1), torch.cat([items, term], 1)
    assert found.item() == pytest.approx(softmax_loss(*longer, **common).item(), rel=1e-5)


def test_the_temperature_learns_from_what_counts_for_nothing_too() -> None:
    temperature = torch.tensor(0.4, requires_grad=True)
    loss = softmax_loss(
        torch.eye(3)[:1],
        torch.eye(3),
        target=torch.tensor([0]),
        negatives=torch.tensor([0, 1]),
        weight=torch.ones(1),
        temperature=temperature,
        passed=(torch.tensor([[0, 2]]), torch.ones(1, 2)),
    )
    torch.autograd.backward([loss])
    assert temperature.grad is not None
    assert torch.isfinite(temperature.grad)
