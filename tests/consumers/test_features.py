import numpy as np

from consumers.features import features_of
from stream.catalog import Catalog
from stream.events import Item


def told(number: int, catalog: Catalog, **vectors: list[float]) -> None:
    wire = {"event_id": "e", "item_id": f"i{number}", "occurred_at": "2026-01-01T00:00:00Z"}
    catalog.announce(number, Item.model_validate({**wire, "vectors": vectors}))


def test_each_modality_has_its_rows_and_its_mask() -> None:
    catalog = Catalog()
    told(0, catalog, text=[1.0, 2.0])
    told(2, catalog, text=[3.0, 4.0], image=[5.0, 6.0, 7.0], other=[1.0])
    told(9, catalog, image=[1.0, 1.0, 1.0])
    found = features_of(catalog.items, 4)
    assert list(found) == ["text", "image"]
    np.testing.assert_array_equal(found["text"].vectors, [[1, 2], [0, 0], [3, 4], [0, 0]])
    np.testing.assert_array_equal(found["text"].present, [True, False, True, False])
    np.testing.assert_array_equal(found["image"].vectors[2], [5, 6, 7])
    np.testing.assert_array_equal(found["image"].present, [False, False, True, False])


def test_what_no_item_has_is_no_modality() -> None:
    catalog = Catalog()
    told(0, catalog, image=[1.0])
    assert list(features_of(catalog.items, 1)) == ["image"]
    assert not features_of(catalog.items, 0)
