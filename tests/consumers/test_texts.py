from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.errors import EndpointFailed
from consumers.texts import Texts
from stream.catalog import TEXT, Catalog
from stream.events import Item


class Lengths:
    """Makes vectors that show which text they came from."""

    name = "lengths"
    dim = 2

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)


def described(number: int, **fields: object) -> Item:
    wire = {"type": "item", "event_id": f"e{number}", "item_id": f"i{number}"}
    return Item.model_validate({**wire, "occurred_at": "2026-01-01T00:00:00Z", **fields})


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.announce(0, described(0, title="four"))
    catalog.announce(1, described(1, title="given", vectors={TEXT: [7.0, 7.0]}))
    catalog.announce(2, described(2, price=3.0))
    catalog.announce(3, described(3, title="sevenly"))
    return catalog


def numbers(*items: int) -> NDArray[np.int32]:
    return np.array(items, np.int32)


def test_items_with_text_and_no_vector_get_their_own(catalog: Catalog) -> None:
    embedder = Lengths()
    assert Texts(catalog, embedder).embed(numbers(3, 2, 1, 0)) == 2
    assert catalog.items[0].vectors[TEXT].tolist() == [4, 1]
    assert catalog.items[3].vectors[TEXT].tolist() == [7, 1]
    assert catalog.items[1].vectors[TEXT].tolist() == [7, 7]
    assert TEXT not in catalog.items[2].vectors


def test_nothing_is_embedded_twice_until_it_is_told_anew(catalog: Catalog) -> None:
    embedder = Lengths()
    texts = Texts(catalog, embedder)
    texts.embed(numbers(0))
    assert texts.embed(numbers(0)) == 0
    assert len(embedder.asked) == 1
    catalog.announce(0, described(9, title="longer", occurred_at="2026-01-02T00:00:00Z"))
    assert texts.embed(numbers(0)) == 1
    assert embedder.asked[-1] == ["longer"]


def test_no_items_ask_for_nothing(catalog: Catalog) -> None:
    embedder = Lengths()
    assert Texts(catalog, embedder).embed(numbers()) == 0
    assert not embedder.asked


def test_without_an_embedder_only_given_vectors_count(catalog: Catalog) -> None:
    assert Texts(catalog, None).embed(numbers(0, 1)) == 0
    assert TEXT not in catalog.items[0].vectors


class Failing(Lengths):
    """Fails so many times, then works."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().embed(texts)
        if len(self.asked) <= self.failures:
            raise EndpointFailed("http-500", "down")
        return vectors


def test_a_model_that_fails_stops_nothing_and_is_asked_again_ever_less_often(
    catalog: Catalog,
) -> None:
    embedder = Failing(4)
    texts = Texts(catalog, embedder)
    made = [
        texts.embed(numbers(*([0] if turn == 0 else [3] if turn == 5 else [])))
        for turn in range(22)
    ]
    assert sum(made) == 2
    # Asked at once, then after 1, 2, 4 and 8 batches of rest.
    assert [turn for turn, n in enumerate(made) if n] == [19]
    assert [len(asked) for asked in embedder.asked] == [1, 1, 2, 2, 2]
    assert texts.refused == {"http-500": 4}
    assert catalog.items[0].vectors[TEXT].tolist() == [4, 1]


def test_what_waited_before_a_restart_waits_again(catalog: Catalog) -> None:
    texts = Texts(catalog, Lengths())
    texts.recover()
    assert texts.embed(numbers()) == 2
    assert texts.embed(numbers()) == 0
