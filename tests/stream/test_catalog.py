"""The newest word on an item holds, in whatever order words come."""

from itertools import permutations
from typing import Any

import numpy as np

from stream.catalog import Catalog
from stream.events import Campaign, Item


def item(second: int, title: str, **more: Any) -> Item:
    return Item.model_validate(
        {
            "event_id": f"e-{title}",
            "occurred_at": f"1970-01-01T00:00:{second:02}Z",
            "item_id": "a",
            "title": title,
            **more,
        }
    )


def campaign(second: int, budget: float) -> Campaign:
    return Campaign.model_validate(
        {
            "event_id": f"c{budget}",
            "occurred_at": f"1970-01-01T00:00:{second:02}Z",
            "campaign_id": "spring",
            "budget_left": budget,
        }
    )


def test_every_order_of_words_comes_to_the_same() -> None:
    words: list[Item | int] = [item(1, "old"), item(5, "new"), 3_000_000, item(5, "newer")]
    for order in permutations(words):
        catalog = Catalog()
        for word in order:
            if isinstance(word, int):
                catalog.remove(0, word)
            else:
                catalog.announce(0, word)
        assert catalog.items[0].title == "newer"
        assert not catalog.items[0].removed
        assert catalog.removed(2).tolist() == [False, False]


def test_a_removal_at_the_same_time_holds() -> None:
    catalog = Catalog()
    assert catalog.announce(1, item(2, "x"))
    assert not catalog.announce(1, item(2, "x"))
    assert catalog.remove(1, 2_000_000)
    assert not catalog.remove(1, 1_000_000)
    assert catalog.items[1].removed
    assert catalog.removed(2).tolist() == [False, True]
    assert catalog.announce(1, item(3, "back"))
    assert catalog.removed(2).tolist() == [False, False]


def test_removed_and_expired_items_are_not_showable() -> None:
    catalog = Catalog()
    catalog.announce(0, item(1, "x", expires_at="1970-01-01T00:00:10Z"))
    catalog.announce(1, item(1, "y"))
    catalog.remove(2, 5)
    assert catalog.showable(4, 9_999_999).tolist() == [True, True, False, True]
    assert catalog.showable(4, 10_000_000).tolist() == [False, True, False, True]


def test_text_and_vectors() -> None:
    catalog = Catalog()
    catalog.announce(
        0, item(1, "Shoes", categories=["red", "men"], description="Good.", vectors={"t": [1, 2]})
    )
    record = catalog.items[0]
    assert record.text == "Shoes. red, men. Good."
    assert record.vectors["t"].dtype == np.float32
    catalog.remove(3, 1)
    assert catalog.items[3].text == ""


def test_the_newest_state_of_a_campaign_holds() -> None:
    catalog = Catalog()
    assert catalog.tell(campaign(5, 10.0))
    assert not catalog.tell(campaign(4, 20.0))
    assert catalog.campaigns["spring"].budget_left == 10.0
    assert catalog.changed_campaigns == {"spring"}
    catalog.mark_saved()
    assert not catalog.changed_campaigns
