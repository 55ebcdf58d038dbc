from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import FeaturesCorrupt, FeaturesForeign, StoreInUse
from stream.features import FeatureStore, text_key

A, B, C = text_key("a"), text_key("b"), text_key("c")


def rows(*values: float) -> np.ndarray:
    return np.array([[v, -v] for v in values], np.float32)


def closed(folder: Path, *keys: bytes) -> None:
    store = FeatureStore(folder, "m", 2)
    store.add(keys, rows(*range(1, len(keys) + 1)))
    store.close()


def test_what_is_added_is_given_in_any_order_and_after_a_restart(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "f", "m", 2)
    store.add([A, B], rows(1, 2))
    store.get([A])
    store.add([C], rows(3))  # beyond what is mapped
    for _ in range(2):
        vectors, present = store.get([C, text_key("d"), A, A])
        assert vectors.tolist() == [[3, -3], [0, 0], [1, -1], [1, -1]]
        assert present.tolist() == [True, False, True, True]
        assert store.known([B, text_key("d")]).tolist() == [True, False]
        assert len(store) == 3
        store.close()
        store = FeatureStore(tmp_path / "f", "m", 2)
    store.close()


def test_a_text_without_a_vector_is_known_to_have_none(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "m", 2)
    store.add([A, B], np.array([[np.nan, np.nan], [2, 2]], np.float32), np.array([False, True]))
    vectors, present = store.get([A, B])
    assert (vectors.tolist(), present.tolist()) == ([[0, 0], [2, 2]], [False, True])
    assert store.known([A]).all()
    store.add([A], rows(5))
    store.close()
    store = FeatureStore(tmp_path, "m", 2)
    assert store.get([A])[0].tolist() == [[5, -5]]
    assert len(store) == 2
    store.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9), st.booleans()), max_size=12))
def test_it_is_a_dictionary_that_outlives_its_process(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, int, bool]]
) -> None:
    folder, expected = tmp_path_factory.mktemp("f"), dict[int, list[float] | None]()
    for name, value, there in written:
        store = FeatureStore(folder, "m", 1)
        store.add([text_key(str(name))], np.array([[value]], np.float32), np.array([there]))
        store.close()
        expected[name] = [float(value)] if there else None
    store = FeatureStore(folder, "m", 1)
    vectors, present = store.get([text_key(str(n)) for n in range(6)])
    store.close()
    got = {n: vectors[n].tolist() if present[n] else None for n in expected}
    assert got == expected
    assert present.sum() == sum(v is not None for v in expected.values())


@pytest.mark.parametrize("cut", [1, 20, 36])
def test_a_record_cut_off_by_a_crash_never_was(tmp_path: Path, cut: int) -> None:
    closed(tmp_path, A, B)
    keys = tmp_path / "keys.bin"
    keys.write_bytes(keys.read_bytes()[:-cut])
    store = FeatureStore(tmp_path, "m", 2)
    assert store.known([A, B]).tolist() == [True, False]
    store.add([C], rows(9))
    assert store.get([A, C])[0].tolist() == [[1, -1], [9, -9]]
    store.close()
    assert keys.stat().st_size == 2 * 37


def test_a_vector_without_its_record_is_written_over(tmp_path: Path) -> None:
    closed(tmp_path, A)
    with (tmp_path / "vectors.f32").open("ab") as file:
        file.write(b"\xff" * 11)
    store = FeatureStore(tmp_path, "m", 2)
    store.add([B], rows(7))
    assert store.get([B])[0].tolist() == [[7, -7]]
    store.close()


def test_damage_is_named(tmp_path: Path) -> None:
    closed(tmp_path, A, B)
    path = tmp_path / "vectors.f32"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x00")
    store = FeatureStore(tmp_path, "m", 2)
    assert store.get([A])[1].all()
    with pytest.raises(FeaturesCorrupt, match="row 1 fails its checksum"):
        store.get([A, B])
    store.close()
    path.write_bytes(content[:-1])
    with pytest.raises(FeaturesCorrupt, match="15 bytes, expected 16 for 2 vectors"):
        FeatureStore(tmp_path, "m", 2)
    (tmp_path / "features.json").write_text("{")
    with pytest.raises(FeaturesCorrupt, match="not JSON"):
        FeatureStore(tmp_path, "m", 2)


@pytest.mark.parametrize(("model", "dim"), [("other", 2), ("m", 3)])
def test_another_models_vectors_are_refused(tmp_path: Path, model: str, dim: int) -> None:
    closed(tmp_path, A)
    with pytest.raises(FeaturesForeign, match=r"'model': 'm', 'dim': 2.*expected"):
        FeatureStore(tmp_path, model, dim)


def test_two_processes_do_not_write_to_one(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "m", 2)
    with pytest.raises(StoreInUse):
        FeatureStore(tmp_path, "m", 2)
    store.close()
    FeatureStore(tmp_path, "m", 2).close()


def test_what_does_not_fit_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "m", 2)
    for keys, vectors, mask in [
        ([A], np.zeros((1, 3), np.float32), None),
        ([A, B], rows(1), None),
        ([A], rows(1), np.ones(2, np.bool_)),
        ([b"short"], rows(1), None),
        ([A], rows(np.nan), None),
    ]:
        with pytest.raises(ValueError, match=r"length 2|32 bytes|NaN"):
            store.add(keys, vectors, mask)
    assert len(store) == 0
    store.close()
    assert (tmp_path / "keys.bin").stat().st_size == 0
    with pytest.raises(ValueError, match="at least one component"):
        FeatureStore(tmp_path, "m", 0)


def test_a_lone_surrogate_has_a_key() -> None:
    assert text_key("\ud800") != text_key("?")
