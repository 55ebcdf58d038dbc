import pytest
from pydantic import ValidationError

from model.config import ModelConfig


def test_json_and_back() -> None:
    config = ModelConfig(dim=8, temperature=0.3)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_a_misspelt_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="temprature"):
        ModelConfig.model_validate_json('{"temprature": 0.1}')


@pytest.mark.parametrize("name", sorted(ModelConfig.model_fields))
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "many"])
def test_no_parameter_takes_a_value_that_makes_no_sense(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({name: value})


def test_groups_of_dimensions_are_equal() -> None:
    with pytest.raises(ValidationError, match="128 dimensions do not divide into 3 groups"):
        ModelConfig(half_lives=(1, 2, 3))


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig().dim = 3  # type: ignore[misc]


def test_the_defaults_are_within_their_own_bounds() -> None:
    ModelConfig.model_validate(ModelConfig().model_dump())
