"""The values that every index takes."""

from typing import Any

import pytest

from consumers.index import (
    MAX_EXCLUDED,
    Conditions,
    to_rfc3339,
)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"campaigns": ()}, "matches nothing"),
        ({"categories": ()}, "matches nothing"),
        ({"price_from": float("nan")}, "price_from"),
        ({"price_to": float("inf")}, "price_to"),
        ({"not_items": ("x",) * (MAX_EXCLUDED + 1)}, "65,537 excluded"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Conditions(**wrong)


def test_times_before_the_epoch_can_be_written() -> None:
    assert to_rfc3339(-1) == "1969-12-31T23:59:59.999999Z"
