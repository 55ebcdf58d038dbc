"""Secrets from files that the environment names."""

from pathlib import Path

import pytest

from consumers.errors import SettingsError
from consumers.flags import settings_of
from consumers.settings import Settings

SECRET = "hush-hush"
NAMES = (
    "kafka_password",
    "kafka_key_password",
    "qdrant_api_key",
    "drift_webhook",
    "embedding_key",
    "chat_key",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_every_secret_can_lie_in_a_file(
    name: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes((SECRET + end).encode())
    monkeypatch.setenv(f"GOAT_{name.upper()}_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("GOAT_KAFKA_USERNAME", "shop")
    settings = settings_of()
    assert getattr(settings, name).get_secret_value() == SECRET
    assert SECRET not in repr(settings) + settings.model_dump_json()


def test_only_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("shop read 0123456789abcdef\n")
    monkeypatch.setenv("GOAT_TOPIC_FILE", str(keys))
    monkeypatch.setenv("GOAT_API_KEYS_FILE", str(keys))  # a setting of its own
    settings = settings_of()
    assert (settings.topic, settings.api_keys, settings.api_keys_file) == (
        "goat.events",
        None,
        keys,
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "no"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("GOAT_QDRANT_API_KEY_FILE", str(file))
    with pytest.raises(SettingsError, match=f"GOAT_QDRANT_API_KEY_FILE: .*secret.*{said}"):
        settings_of()


def test_a_secret_is_given_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("GOAT_CHAT_KEY_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("GOAT_CHAT_KEY", SECRET)
    with pytest.raises(
        SettingsError, match="GOAT_CHAT_KEY and GOAT_CHAT_KEY_FILE are both set"
    ) as e:
        settings_of()
    assert SECRET not in str(e.value)


@pytest.mark.parametrize("name", ["qdrant", "chat_url", "embedding_url"])
def test_an_address_holds_no_secret(name: str) -> None:
    """Addresses are shown in messages."""
    with pytest.raises(SettingsError, match=f"{name}: .*keys are settings too") as refused:
        settings_of(**{name: f"https://shop:{SECRET}@host:1"})
    assert SECRET not in str(refused.value)


def test_what_is_wrong_is_said_without_what_was_given() -> None:
    """The validator's own words would show the whole of the settings."""
    with pytest.raises(ValueError, match="GOAT_KAFKA_USERNAME") as refused:
        Settings.model_validate({"kafka_password": SECRET})
    assert SECRET not in str(refused.value)
