"""Items that have more than an id: heads, fusion, and the spaces brought together."""

from dataclasses import replace

import numpy as np
import pytest

from model.data import Features, Interactions, unit_rows
from model.trainer import finetune
from tests.model.planted import BOUND, CLUSTERS, CONFIG, ITEMS, SIZE, recall, split


def test_text_places_items_that_have_no_events() -> None:
    data = split()[0]
    cluster = np.empty(ITEMS, np.int64)
    cluster[np.random.default_rng(0).permutation(ITEMS)] = np.repeat(np.arange(CLUSTERS), SIZE)
    rng = np.random.default_rng(5)
    centre = rng.standard_normal((CLUSTERS, 20)).astype(np.float32)
    # One new item a cluster, after the known ones.
    owner = np.concatenate([cluster, np.arange(CLUSTERS)])
    noise = rng.standard_normal((len(owner), 20)).astype(np.float32)
    features = Features(centre[owner] + 0.2 * noise, np.ones(len(owner), np.bool_))
    rest = {name: getattr(data, name) for name in data.__slots__ if name != "items"}
    wide = Interactions(**rest, items=len(owner))
    first = finetune(wide, features={"text": features}, config=CONFIG, seed=1)
    similar = first.state.items[ITEMS:] @ first.state.items[:ITEMS].T
    nearest = cluster[np.argsort(-similar, axis=1)[:, : SIZE // 2]]
    assert np.mean(nearest == np.arange(CLUSTERS)[:, None]) > 0.9
    assert first.report.alignment["text"].converged
    again = finetune(wide, features={"text": features}, previous=first.state, config=CONFIG, seed=1)
    assert again.report.alignment["text"].iterations <= 1
    assert again.report.alignment["text"].cold_iterations > 3
    without = finetune(wide, previous=first.state, config=CONFIG, seed=1)
    assert without.state.potentials == first.state.potentials


def test_text_that_comes_later_adds_a_head() -> None:
    data = split()[0]
    plain = finetune(data, config=CONFIG, seed=1).state
    present = np.zeros(ITEMS, np.bool_)
    present[0] = True
    features = Features(np.ones((ITEMS, 5), np.float32), present)
    headed = finetune(data, features={"text": features}, previous=plain, config=CONFIG, seed=1)
    assert headed.state.parameters["sides.text.weight"].shape == (5, CONFIG.dim)
    assert not headed.report.alignment


def test_each_modality_has_a_head_a_weight_and_a_place_for_what_is_new() -> None:
    data, rng = split()[0], np.random.default_rng(2)
    wide = replace(data, items=ITEMS + 2)
    text, image = (
        Features(rng.standard_normal((ITEMS + 2, width)).astype(np.float32), present)
        for width, present in ((5, np.arange(ITEMS + 2) % 2 == 0), (3, np.ones(ITEMS + 2, bool)))
    )
    config = CONFIG.model_copy(update={"first_epochs": 1})
    both = {"image": image, "text": text}
    made = finetune(wide, features=both, config=config, seed=1, threads=1)
    for name, width in (("text", 5), ("image", 3)):
        assert made.state.parameters[f"sides.{name}.weight"].shape == (width, CONFIG.dim)
        assert made.state.parameters[f"scales.{name}"] != pytest.approx(CONFIG.side_scale)
        assert made.report.alignment[name].pairs > 100
    # The last has no text: its image places it.
    assert made.state.items[-2:].any(axis=1).all()
    later = finetune(wide, features={"text": text}, previous=made.state, config=config, seed=2)
    for kept in ("parameters", "moments"):
        was, now = getattr(made.state, kept), getattr(later.state, kept)
        assert was.keys() == now.keys()
        for name in was:
            if "image" in name:
                np.testing.assert_array_equal(was[name], now[name])


def test_on_the_simplex_the_planted_answer_is_found_too() -> None:
    config = CONFIG.model_copy(update={"fusion": "simplex", "rate": 0.02})
    features = {"text": planted_texts()}
    state = finetune(split()[0], features=features, config=config, seed=1, threads=1).state
    assert recall(state) >= BOUND
    assert set(state.parameters) >= {"log_shares.text", "sides.text.weight"}


def planted_texts() -> Features:
    """Texts that tell items apart within their clusters, and so little of what is clicked."""
    rng = np.random.default_rng(8)
    return Features(rng.standard_normal((ITEMS, 48)).astype(np.float32), np.ones(ITEMS, np.bool_))


def test_a_head_turns_with_its_items() -> None:
    data, texts = split()[0], planted_texts()
    first = finetune(data, features={"text": texts}, config=CONFIG, seed=1, threads=1).state
    config = CONFIG.model_copy(update={"first_epochs": 1})
    again = finetune(
        data, features={"text": texts}, previous=first, config=config, seed=2, anew=True
    ).state
    image = texts.normalised() @ again.parameters["sides.text.weight"]
    scale = again.parameters["scales.text"]
    z = unit_rows(again.parameters["embedding"] + scale * unit_rows(image))
    np.testing.assert_allclose(z[again.learned], again.items[again.learned], atol=1e-5)
