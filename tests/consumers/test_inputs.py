import pytest

from consumers.errors import SettingsError
from consumers.inputs import parse_columns


def test_roles_and_columns() -> None:
    assert parse_columns("user=who, item=what,time=when:float") == {
        "user": "who",
        "item": "what",
        "time": "when:float",
    }
    assert parse_columns(None) == {}
    assert parse_columns("") == {}


@pytest.mark.parametrize("given", ["user", "user=", "who=user", "user=a,user=b", "user=a,,item=b"])
def test_what_is_no_pair_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="--columns"):
        parse_columns(given)
