from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from consumers.embeddings import EndpointEmbedder, Kept
from consumers.errors import EndpointFailed
from stream.features import FeatureStore
from tests.consumers.recorded import Answer, Recorded, Time, recorded


@pytest.fixture
def tape() -> Iterator[Recorded]:
    with recorded() as made:
        yield made


def vectors(body: Any) -> object:
    """Vectors that show which text they came from, the last one first."""
    data = [
        {"index": i, "embedding": [float(len(text)), float(ord(text[0]))]}
        for i, text in enumerate(body["input"])
    ]
    return {"data": data[::-1], "usage": {"prompt_tokens": 5}}


def expected(texts: Sequence[str]) -> list[list[float]]:
    return [[len(text), ord(text[0])] for text in texts]


def test_each_text_gets_its_own_vector_over_batches_and_disorder(tape: Recorded) -> None:
    tape.respond = vectors
    endpoint = tape.endpoint(Time())
    embedder = EndpointEmbedder(endpoint, "e1", 2, batch=2)
    texts = ["a", "bb", "ccc", "\ud800x", "e"]
    got = embedder.embed(texts)
    assert embedder.embed([]).shape == (0, 2)
    endpoint.close()
    assert got.dtype == np.float32
    assert got.tolist() == expected(["a", "bb", "ccc", "?x", "e"])
    assert [body["input"] for body in tape.asked] == [["a", "bb"], ["ccc", "?x"], ["e"]]
    assert {body["model"] for body in tape.asked} == {"e1"}
    assert tape.paths[0] == "/v1/embeddings"
    assert embedder.usage.prompt_tokens == 15


GOOD = {"index": 0, "embedding": [1, 2]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"data": [GOOD]}, "wrong-count"),
        ({"data": [GOOD, {**GOOD, "index": 2}]}, "wrong-count"),
        ({"data": [GOOD, {**GOOD, "index": 1}, {**GOOD, "index": 2}]}, "wrong-count"),
        ({"data": [GOOD, {"index": 1, "embedding": [1, 2, 3]}]}, "wrong-dimension"),
        ({"data": [GOOD, {"index": 1, "embedding": 4}]}, "wrong-dimension"),
        ({"data": [GOOD, {"index": 1, "embedding": [1, float("nan")]}]}, "not-finite"),
        ({"data": [GOOD, {"index": 1, "embedding": [1, float("inf")]}]}, "not-finite"),
        ({"data": [GOOD, {"index": 1, "embedding": ["x", 1]}]}, "not-numbers"),
        ({"data": [GOOD, {"index": 1}]}, "no-data"),
        ({"error": "x"}, "no-data"),
        ({"data": None}, "no-data"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason_and_counted(
    tape: Recorded, body: object, reason: str
) -> None:
    tape.answers = [Answer(body)]
    endpoint = tape.endpoint(Time())
    embedder = EndpointEmbedder(endpoint, "e1", 2)
    with pytest.raises(EndpointFailed) as caught:
        embedder.embed(["a", "b"])
    endpoint.close()
    assert caught.value.reason == reason
    assert embedder.usage.refused == {reason: 1}


class Lengths:
    name = "lengths"
    dim = 2

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = ""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.broken in texts:
            raise EndpointFailed("http-500", "down")
        self.asked += texts
        return np.array(expected(texts), np.float32).reshape(-1, 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    made = FeatureStore(tmp_path, "lengths", 2)
    yield made
    made.close()


def test_what_was_paid_for_is_not_asked_again(store: FeatureStore) -> None:
    first = Lengths()
    assert Kept(first, store).embed(["a", "bb", "a"]).tolist() == expected(["a", "bb", "a"])
    second = Lengths()
    kept = Kept(second, store)
    assert kept.embed(["ccc", "bb", "a"]).tolist() == expected(["ccc", "bb", "a"])
    assert kept.embed(["a"]).tolist() == expected(["a"])
    assert (first.asked, second.asked) == (["a", "bb"], ["ccc"])
    assert (kept.name, kept.dim) == ("lengths", 2)


def test_what_came_before_a_failure_is_kept(store: FeatureStore) -> None:
    inner = Lengths()
    inner.broken = "t99"
    texts = [f"t{n}" for n in range(100)]
    with pytest.raises(EndpointFailed):
        Kept(inner, store).embed(texts)
    assert inner.asked == texts[:64]
    inner.broken = ""
    assert Kept(inner, store).embed(texts).tolist() == expected(texts)
    assert inner.asked == texts


def test_another_models_store_is_refused(store: FeatureStore) -> None:
    other = Lengths()
    other.dim = 3
    with pytest.raises(ValueError, match="lengths of length 3 does not belong"):
        Kept(other, store)
