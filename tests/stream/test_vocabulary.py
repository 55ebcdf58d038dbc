"""A name's number is for good."""

from hypothesis import given
from hypothesis import strategies as st

from stream.vocabulary import Vocabulary


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), max_size=8), max_size=8))
def test_numbers_are_given_in_order_of_first_sight(batches: list[list[str]]) -> None:
    vocabulary = Vocabulary()
    order: dict[str, int] = {}
    for batch in batches:
        for name in batch:
            order.setdefault(name, len(order))
        assert vocabulary.intern(batch).tolist() == [order[name] for name in batch]
    assert list(vocabulary.names) == list(order)
    assert vocabulary.find([*order, ""]).tolist() == [*order.values(), -1]


def test_an_erased_name_gets_a_new_number() -> None:
    vocabulary = Vocabulary()
    vocabulary.intern(["a", "b"])
    assert vocabulary.erase("a") == 0
    assert vocabulary.erase("a") == -1
    assert "a" not in vocabulary
    assert vocabulary.name(0) == ""
    assert vocabulary.intern(["b", "a"]).tolist() == [1, 2]
    assert list(vocabulary.erased) == [0]
    vocabulary.mark_saved()
    assert list(vocabulary.erased) == []
    again = Vocabulary(vocabulary.names)
    assert len(again) == 3
    assert again.find(["a", "b", ""]).tolist() == [2, 1, -1]
