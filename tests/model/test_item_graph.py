"""The item-item graph: attention over the nearest by text, and what it says of new items."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from model import item_graph, trainer, warm_start
from model.config import ModelConfig
from model.data import Features, Interactions, interactions, unit_rows
from model.errors import InvalidInput
from model.item_graph import ItemGraph
from model.neighbours import Neighbours, nearest
from model.part import ALL, Part, part_of
from model.trainer import finetune
from model.warm_start import begin

CLUSTERS, SIZE, USERS, LENGTH, WIDTH = 15, 20, 250, 16, 200
ITEMS = CLUSTERS * SIZE
OLD = np.arange(ITEMS) % SIZE < SIZE // 2
"""Half of each cluster's items; the others have no events."""
CONFIG = ModelConfig(
    dim=16, context=8, half_lives=(4,), batch=256, negatives=200, first_epochs=6, item_neighbours=30
)


def stream() -> tuple[Interactions, NDArray[np.int64]]:
    """Events on old items, each user's within one cluster; and the users' clusters."""
    rng = np.random.default_rng(0)
    home = rng.integers(0, CLUSTERS, USERS)
    item = home * SIZE + rng.integers(0, SIZE // 2, (LENGTH, USERS))
    return interactions(np.tile(np.arange(USERS), LENGTH), item.ravel(), items=ITEMS), home


def texts() -> dict[str, Features]:
    """Each cluster's own direction under noise of eight times its square, in many dimensions."""
    rng = np.random.default_rng(1)
    centre = unit_rows(rng.standard_normal((CLUSTERS, WIDTH)).astype(np.float32))
    noise = unit_rows(rng.standard_normal((ITEMS, WIDTH)).astype(np.float32))
    rows = centre.repeat(SIZE, axis=0) + np.float32(np.sqrt(8.0)) * noise
    return {"text": Features(rows, np.ones(ITEMS, np.bool_))}


def hits(config: ModelConfig) -> float:
    """Share of new items whose vector is nearest to the old ones of their own cluster."""
    data, _ = stream()
    state = finetune(data, features=texts(), config=config, seed=1, threads=1).state
    encoder = begin(data, texts(), state, config, np.random.default_rng(0))
    with torch.no_grad():
        z = encoder.items().numpy()
    mean = unit_rows(z.reshape(CLUSTERS, SIZE, -1)[:, : SIZE // 2].mean(1))
    found = (z[~OLD] @ mean.T).argmax(1)
    return float(np.mean(found == np.flatnonzero(~OLD) // SIZE))


BOUND = 0.75
"""Guessing gives .07, the text head alone .58."""


def test_neighbours_tell_where_new_items_belong() -> None:
    assert hits(CONFIG) >= BOUND
    assert hits(CONFIG.model_copy(update={"item_neighbours": 0})) < BOUND - 0.1


def test_with_others_neighbours_the_bound_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def dealt(rows: NDArray[np.float32], k: int, previous: Neighbours | None = None) -> Neighbours:
        found = nearest(rows, k, previous)
        return Neighbours(
            np.random.default_rng(0).permutation(found.ids), found.cosine, found.stamp
        )

    monkeypatch.setattr(warm_start, "nearest", dealt)
    assert hits(CONFIG) < BOUND


def graph(n: int = 40, k: int = 6, seed: int = 0) -> ItemGraph:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.standard_normal((n, 5)).astype(np.float32))
    rows[3] = 0
    made = ItemGraph(rows, nearest(rows, k), 8, 2, rng)
    with torch.no_grad():
        made.out += torch.from_numpy(rng.standard_normal((8, 8)).astype(np.float32))
    return made


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_attention_is_the_formula_head_by_head(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(item_graph, "_BLOCK", block)
    side, heads = graph(), 2
    table, x = side.table, side.rows.numpy().astype(np.float64)
    named = {name: p.detach().numpy().astype(np.float64) for name, p in side.named_parameters()}
    w, v = named["conv.lin_l.weight"], named["conv.lin_r.weight"]
    edge, a = named["conv.lin_edge.weight"][:, 0], named["conv.att"][0]
    expected = np.zeros((len(x), 8))
    for i in range(len(x)):
        near = table.ids[i][table.ids[i] >= 0]
        if not len(near):
            continue
        cosine = table.cosine[i, : len(near), None]
        before = x[near] @ w.T + x[i] @ v.T + cosine * edge
        leaky = np.where(before > 0, before, 0.2 * before).reshape(len(near), heads, -1)
        score = np.exp((leaky * a).sum(2))
        share = score / score.sum(0)
        value = (x[near] @ w.T).reshape(len(near), heads, -1)
        seen = (share[:, :, None] * value).sum(0).ravel()
        expected[i] = np.where(seen > 0, seen, np.expm1(seen)) @ named["out"]
    with torch.no_grad():
        found = side.vectors().numpy()
    np.testing.assert_allclose(found, unit_rows(expected.astype(np.float32)), atol=1e-5)
    assert not found[3].any()


def test_some_items_are_encoded_as_among_all_and_nothing_else_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = graph(n=400)
    ids = torch.tensor([7, 3, 250])
    with torch.no_grad():
        every = side.vectors()
    read, conv = list[int](), side.conv.forward

    def counted(rows: Any, *rest: Any) -> Any:
        read.extend(map(len, rows))
        return conv(rows, *rest)

    monkeypatch.setattr(side.conv, "forward", counted)
    with torch.no_grad():
        some = side.vectors(ids)
    np.testing.assert_allclose(some.numpy(), every[ids].numpy(), atol=1e-6)
    assert read[0] <= 12
    assert read[1] == 3


def test_learning_from_a_part_of_the_items_is_learning_from_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, _ = stream()
    config = CONFIG.model_copy(
        update={"batch": 64, "negatives": 20, "first_epochs": 1, "contrastive_weight": 0.1}
    )
    few = np.flatnonzero((data.owners() < 20) & (data.sequence < 3 * USERS))
    user, item = data.owners()[few], data.item[few]
    known = interactions(user, item, items=ITEMS)
    partly = finetune(known, features=texts(), config=config, seed=1, threads=1)
    assert partly.report.steps == 1
    asked = list[bool]()

    def all_of(items: int, *needed: NDArray[np.integer]) -> Part:
        asked.append(part_of(items, *needed).ids is not None)
        return ALL

    monkeypatch.setattr(trainer, "part_of", all_of)
    wholly = finetune(known, features=texts(), config=config, seed=1, threads=1)
    assert asked == [True]
    assert partly.state.moments.keys() == wholly.state.moments.keys()
    for name, moment in wholly.state.moments.items():
        np.testing.assert_allclose(partly.state.moments[name], moment, atol=1e-7, err_msg=name)


def test_a_fine_tune_goes_on_from_the_neighbours_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = stream()
    config = CONFIG.model_copy(update={"first_epochs": 1, "epochs": 1})
    first = finetune(data, features=texts(), config=config, seed=1, threads=1).state
    assert first.neighbours is not None
    given = list[Neighbours | None]()

    def noted(rows: NDArray[np.float32], k: int, previous: Neighbours | None = None) -> Neighbours:
        given.append(previous)
        return nearest(rows, k, previous)

    monkeypatch.setattr(warm_start, "nearest", noted)
    for anew in (False, True):
        finetune(data, features=texts(), previous=first, config=config, seed=2, anew=anew)
    assert given == [first.neighbours, first.neighbours]
    off = config.model_copy(update={"item_neighbours": 0})
    later = finetune(data, features=texts(), previous=first, config=off, seed=2).state
    assert later.neighbours is first.neighbours
    name = "sides.graph.conv.att"
    np.testing.assert_array_equal(later.parameters[name], first.parameters[name])


def test_learning_anew_turns_the_graph_with_the_items() -> None:
    data, _ = stream()
    config = CONFIG.model_copy(update={"first_epochs": 2})
    first = finetune(data, features=texts(), config=config, seed=1, threads=1).state
    again = finetune(
        data, features=texts(), previous=first, config=config, seed=2, threads=1, anew=True
    )
    assert again.report.turn is not None
    assert again.report.turn.degrees < 0.1
    encoder = begin(data, texts(), again.state, config, np.random.default_rng(0))
    with torch.no_grad():
        z = encoder.items().numpy()
    np.testing.assert_allclose(z[OLD], again.state.items[OLD], atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    rows = np.eye(4, dtype=np.float32)
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInput, match="of 3 items, texts of 4"):
        ItemGraph(rows, nearest(rows[:3], 2), 8, 2, rng)
    with pytest.raises(InvalidInput, match="3 heads"):
        ItemGraph(rows, nearest(rows, 2), 8, 3, rng)
    with pytest.raises(ValidationError, match="3 heads"):
        ModelConfig(dim=16, item_neighbours=5, item_heads=3)
