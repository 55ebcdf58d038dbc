"""Secrets from files: beside every secret ``GOAT_NAME`` there is ``GOAT_NAME_FILE``, for mounts."""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from consumers.errors import SettingsError

LARGEST_BYTES = 65_536


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the files that the environment names; the newline at their end is not of the secret.

    Raises
    ------
    SettingsError
        If a secret is given both ways, or its file cannot be read, is empty or no text.
    """

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        self._prefix = str(settings.model_config.get("env_prefix", ""))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the field's file; None if none is named."""
        variable = f"{self._prefix}{field_name}".upper()
        named = os.environ.get(f"{variable}_FILE")
        is_setting = f"{field_name}_file" in self.settings_cls.model_fields  # read by its own rules
        if named is None or is_setting or not _is_secret(field):
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one")
        return _read(f"{variable}_FILE", Path(named)), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All of them, by the name of their field."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _read(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            secret = file.read(LARGEST_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: {path} is not text") from None
    if not secret:
        raise SettingsError(f"{variable}: {path} is empty")
    return secret
