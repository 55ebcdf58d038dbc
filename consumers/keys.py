"""Who may do what: API keys with roles, and how often."""

import hmac
import ipaddress
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from consumers.errors import SettingsError
from stream.clock import Clock

SHORTEST = 16
_PARTS = 3


class Role(StrEnum):
    """What a key may be for; none includes another."""

    READ = "read"
    EVENTS = "events"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, of which only the hash is kept.

    Attributes
    ----------
    name : str
        Stands in logs and metrics.
    digest : bytes
        SHA-256 of the secret.
    """

    name: str
    roles: frozenset[Role]
    digest: bytes


class Keyring:
    """All keys; a presented one is compared with each, in time that does not tell how alike.

    Parameters
    ----------
    keys : iterable of Key
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """Whose secret this is; None if it is nobody's."""
        digest, found = sha256(secret.encode("utf-8", "replace")).digest(), None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found


def parse_keys(text: str, where: str) -> list[Key]:
    """Read lines of ``name role[,role] secret``; empty ones and those after ``#`` do not count.

    Parameters
    ----------
    where : str
        Named in the error, which never shows a secret.

    Raises
    ------
    SettingsError
        Naming the line, and what is wrong with it.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.replace(";", "\n").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != _PARTS:
            raise SettingsError(f"{where}, key {number}: {len(words)} words; expected {_EXPECTED}")
        name, roles, secret = words
        unknown = sorted(set(roles.split(",")) - {*Role})
        if unknown:
            raise SettingsError(f"{where}, key {number}: no role {unknown}; there are {[*Role]}")
        if len(secret) < SHORTEST:
            raise SettingsError(
                f"{where}, key {number}: a secret of {len(secret)} characters, at least {SHORTEST}:"
                ' make one with `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        if any(key.name == name for key in keys):
            raise SettingsError(f"{where}, key {number}: the name {name} is taken")
        granted = frozenset(Role(role) for role in roles.split(","))
        keys.append(Key(name, granted, sha256(secret.encode()).digest()))
    return keys


_EXPECTED = "`name role[,role] secret`, e.g. `shop read,events 9f…`"


def read_keys(path: Path) -> list[Key]:
    """Read a file of keys; see `parse_keys`.

    Raises
    ------
    SettingsError
        If it cannot be read, or a line is wrong.
    """
    try:
        return parse_keys(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the file of API keys cannot be read: {error}") from error


def check_exposure(host: str, *, keys: int, unguarded: bool) -> None:
    """Refuse to let others than this machine ask without a key.

    Raises
    ------
    SettingsError
    """
    if keys or unguarded or is_loopback(host):
        return
    raise SettingsError(
        f"--host {host} is reached from other machines, and there are no API keys: set"
        " GOAT_API_KEYS or GOAT_API_KEYS_FILE, listen on 127.0.0.1, or say --unguarded"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host of this name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Buckets:
    """A token bucket a key: so many requests a second, and so many at once.

    Parameters
    ----------
    per_s : float
        Tokens that come in a second.
    burst : float
        Tokens that a bucket holds.
    clock : Clock
    """

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._full: dict[str, tuple[float, int]] = {}  # names of keys only: as many as there are
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Take a token: 0 if there was one, else the seconds until there is."""
        now_us = self._clock.now_us()
        with self._lock:
            tokens, at_us = self._full.get(name, (self._burst, now_us))
            tokens = min(self._burst, tokens + max(0, now_us - at_us) / 1e6 * self._per_s)
            if tokens >= 1.0:
                self._full[name] = tokens - 1.0, now_us
                return 0.0
            self._full[name] = tokens, now_us
            return (1.0 - tokens) / self._per_s
