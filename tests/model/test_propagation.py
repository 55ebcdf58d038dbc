"""Propagation against PyG's LightGCN layer."""

import warnings

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.data import Interactions, interactions, unit_rows
from model.errors import InvalidInput
from model.propagation import propagate
from model.trainer import finetune

with warnings.catch_warnings():
    # torch-geometric's own import still touches what torch deprecates.
    warnings.simplefilter("ignore")
    from torch_geometric.nn import LGConv


def graph(repeated: int = 0) -> Interactions:
    rng = np.random.default_rng(0)
    pairs = rng.permutation(12 * 9)[:50]
    pairs = np.concatenate([pairs, pairs[:repeated]])
    weight = rng.random(len(pairs)).astype(np.float32) + 0.1
    return interactions(pairs // 9, pairs % 9, items=9, users=12, weight=weight)


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_hops_are_pairs_of_lightgcn_layers(hops: int) -> None:
    data = graph()
    z = unit_rows(np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32))
    user, item = torch.from_numpy(data.owners()), torch.from_numpy(data.item.astype(np.int64)) + 12
    edges = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    weight = torch.from_numpy(data.weight).repeat(2)
    x = torch.cat([torch.zeros(12, 5), torch.from_numpy(z)])
    layer, total = LGConv(), torch.from_numpy(z).clone()
    for _ in range(hops):
        x = layer(layer(x, edges, weight), edges, weight)
        total += 0.4 * x[12:]
    ours = propagate(data, z, mix=0.4, hops=hops)
    np.testing.assert_allclose(ours, unit_rows(total.numpy()), atol=1e-6)


def test_an_edge_twice_is_an_edge_of_both_weights() -> None:
    data = graph(repeated=10)
    z = np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32)
    key = data.owners() * 9 + data.item
    distinct, inverse = np.unique(key, return_inverse=True)
    summed = np.bincount(inverse, data.weight).astype(np.float32)
    merged = interactions(distinct // 9, distinct % 9, items=9, users=12, weight=summed)
    np.testing.assert_allclose(
        propagate(data, z, mix=0.7), propagate(merged, z, mix=0.7), atol=1e-6
    )


def test_what_was_passed_over_is_no_edge() -> None:
    positive = np.array([True, True, False])
    data = interactions(np.zeros(3, int), np.arange(3), items=3, positive=positive)
    z = np.eye(3, dtype=np.float32)
    mixed = propagate(data, z, mix=1.0)
    np.testing.assert_allclose(mixed[2], z[2])
    assert mixed[0, 1] > 0.3
    assert mixed[0, 2] == 0


def test_what_does_not_fit_is_refused() -> None:
    z = np.eye(9, dtype=np.float32)
    with pytest.raises(InvalidInput, match="8 vectors for 9"):
        propagate(graph(), z[:8], mix=1.0)
    with pytest.raises(InvalidInput, match="negative"):
        propagate(graph(), z, mix=-1.0)


def test_layers_change_what_is_served_and_not_what_is_learned() -> None:
    data, config = graph(), ModelConfig(dim=8, context=5, first_epochs=1)
    plain = finetune(data, config=config, seed=1).state
    mixing = config.model_copy(update={"layers": 2, "layer_weight": 0.4})
    mixed = finetune(data, config=mixing, seed=1).state
    np.testing.assert_array_equal(mixed.parameters["embedding"], plain.parameters["embedding"])
    expected = propagate(data, plain.items, mix=0.4, hops=2)
    np.testing.assert_allclose(mixed.items, expected, atol=1e-6)
    assert np.abs(mixed.items - plain.items).max() > 0.01
