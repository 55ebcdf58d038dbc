from pathlib import Path

import pytest
from pydantic import ValidationError

from consumers.settings import Settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOAT_STATE", "elsewhere")
    monkeypatch.setenv("GOAT_KAFKA", "broker:9092")
    settings = Settings()
    assert settings.graph_dir == Path("elsewhere/graph")
    assert settings.models_dir == Path("elsewhere/models")
    assert settings.kafka == "broker:9092"


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOAT_TOPIC", "a")
    assert Settings(topic="b").topic == "b"


def test_secrets_are_not_shown() -> None:
    settings = Settings.model_validate(
        {"kafka_username": "u", "kafka_password": "hush", "qdrant_api_key": "hush"}
    )
    assert "hush" not in repr(settings)
    assert settings.kafka_options()["sasl_plain_password"] == "hush"


def test_plain_kafka_needs_no_options() -> None:
    assert Settings().kafka_options() == {}


def test_tls_options_carry_their_files() -> None:
    settings = Settings.model_validate(
        {
            "kafka_security": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_username": "u",
            "kafka_password": "p",
            "kafka_ca": "ca.pem",
        }
    )
    assert settings.kafka_options() == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
        "ssl_cafile": "ca.pem",
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kafka_password": "p"}, "GOAT_KAFKA_USERNAME"),
        ({"kafka_security": "SASL_SSL"}, "GOAT_KAFKA_SASL_MECHANISM"),
        ({"collection": "../etc"}, "collection"),
        ({"batch": 0}, "batch"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(values)
