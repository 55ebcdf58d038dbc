"""Event ids that hold an erased user's name: from then on known by a hash alone.

An id such as ``user-1-click-7`` names its user. When that user is erased, the id is renamed to a
token in every window that remembers it, and so is the same id whenever it arrives again: what is
repeated is still known, and what refers to it still finds it. A window forgets a token as it
forgets an id. While nothing is hidden, nothing is compared.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final
from zlib import crc32

from stream.batch import EventBatch

MARK: Final = "\x00"  # begins a token: no valid id holds it
_MARK_END: Final = "\x01"
_CHECK: Final = slice(1, 9)


def token(event_id: str) -> str:
    """What an id is known by once it is hidden: a checksum and 128 bits of BLAKE2b."""
    raw = event_id.encode("utf-8", "surrogatepass")
    digest = blake2b(raw, digest_size=16, person=b"goat event id").hexdigest()
    return f"{MARK}{crc32(raw):08x}{digest}"


def naming(names: Iterable[str]) -> "re.Pattern[str]":
    """A pattern that finds any of these names where it stands for itself.

    That is where no letter or digit goes on before or after it: ``user-1`` is in
    ``user-1-click-7``, not in ``user-12``. At least one name must be given.
    """
    return re.compile("|".join(map(_apart, sorted(names, key=len, reverse=True))))


def _apart(name: str) -> str:
    before = r"(?<![^\W_])" if name[:1].isalnum() else ""
    after = r"(?![^\W_])" if name[-1:].isalnum() else ""
    return f"{before}{re.escape(name)}{after}"


class Veil:
    """The ids that are hidden, as tokens."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._checks: set[int] = set()  # of the tokens: cheap to compare with

    def __len__(self) -> int:
        return len(self._tokens)

    def know(self, ids: Iterable[str]) -> None:
        """Take up the tokens among what a window remembers."""
        for name in ids:
            if name < _MARK_END:
                self._tokens.add(name)
                self._checks.add(int(name[_CHECK], 16))

    def hidden(self, ids: Sequence[str], names: Sequence[str]) -> dict[str, str]:
        """Ids that hold one of these names -> their tokens, which are known from here on.

        Parameters
        ----------
        ids : n strings
            Without line ends, as valid ids are.
        """
        together = "\n".join(ids)
        there = [name for name in names if name in together]
        if not there:
            return {}
        held = naming(there)
        found = {name: token(name) for name in ids if name >= _MARK_END and held.search(name)}
        self.know(found.values())
        return found

    def over(self, batch: EventBatch) -> EventBatch:
        """The same events, with tokens in place of hidden ids."""
        if not self._tokens:
            return batch
        ids, refers = self._renamed(batch.event_id), self._renamed(batch.refers_to)
        if ids is batch.event_id and refers is batch.refers_to:
            return batch
        return replace(batch, event_id=ids, refers_to=refers)

    def _renamed(self, ids: Sequence[str]) -> Sequence[str]:
        if self._checks.isdisjoint(map(crc32, map(str.encode, ids))):
            return ids
        tokens = map(token, ids)
        return [t if t in self._tokens else name for name, t in zip(ids, tokens, strict=True)]
