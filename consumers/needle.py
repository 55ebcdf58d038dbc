"""A user's id as it is looked for, and taken out: in fields, in event ids, in texts, in bytes.

A field that holds a user is compared as a whole: ``user-1`` is not ``user-1-b``. In event ids and
texts the id is found where no letter or digit goes on before or after it. An id of fewer than
`TELLING` bytes, such as ``7``, says nothing in a text or in a binary file: there it is not looked
for, or only in quotes.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from stream.veil import naming

TELLING: Final = 6
ERASED: Final = "(erased)"
USER_FIELDS: Final = frozenset({"user", "user_id", "users", "name"})
ID_FIELDS: Final = frozenset({"id", "event_id", "refers_to", "request_id"})

Span = tuple[int, int]
"""From a byte on, up to another."""


class Needle:
    """One user's id.

    Parameters
    ----------
    user : str
        As events have it.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.telling = len(user.encode()) >= TELLING
        escaped = json.dumps(user)[1:-1]
        self._spellings = sorted({user, escaped, quote(user, safe="")}, key=len, reverse=True)
        self._named = naming(self._spellings)
        quoted = "|".join(re.escape(f'"{one}"') for one in self._spellings)
        self._quoted = re.compile(quoted)

    # -- texts

    def in_id(self, text: str) -> bool:
        """Whether an event's id holds it."""
        return self.user in text and self._named.search(text) is not None

    def in_text(self, text: str) -> bool:
        """Whether a text that may be of anything holds it."""
        found = self._named if self.telling else self._quoted
        return found.search(text) is not None

    def in_field(self, field: str, value: str) -> bool:
        """Whether a field of this name holds it."""
        if field in USER_FIELDS:
            return value == self.user
        return self.in_id(value) if field in ID_FIELDS else self.in_text(value)

    # -- JSON

    def count(self, value: Any, field: str = "") -> int:
        """How often JSON holds it, in fields and in names of fields."""
        return sum(1 for _ in self._places(value, field))

    def without(self, value: Any, field: str = "") -> Any:
        """The same JSON without it: texts that are it become empty, others lose it."""
        if isinstance(value, str):
            if not self.in_field(field, value):
                return value
            return "" if value == self.user else self._named.sub(ERASED, value)
        if isinstance(value, list):
            return [self.without(one, field) for one in value]
        if isinstance(value, dict):
            return {
                ERASED if self._is_key(key) else key: self.without(one, key)
                for key, one in value.items()
            }
        return value

    def _places(self, value: Any, field: str) -> Iterator[str]:
        if isinstance(value, str):
            if self.in_field(field, value):
                yield field
        elif isinstance(value, list):
            for one in value:
                yield from self._places(one, field)
        elif isinstance(value, dict):
            for key, one in value.items():
                if self._is_key(key):
                    yield key
                yield from self._places(one, key)

    def _is_key(self, key: str) -> bool:
        return self.telling and key == self.user

    # -- messages and other bytes

    def in_message(self, raw: bytes) -> bool:
        """Whether a message holds it, be it an event or not."""
        try:
            return self.count(json.loads(raw)) > 0
        except (ValueError, RecursionError):
            return self.in_text(raw.decode("utf-8", "replace"))

    def in_letter(self, line: dict[str, Any]) -> bool:
        """Whether a line of dead letters holds it."""
        messages = [line, *line.get("headers", [])]
        for one in messages:
            if "value_base64" in one:
                try:
                    raw = base64.b64decode(one["value_base64"])
                except (binascii.Error, ValueError):
                    raw = b""
                if self.in_message(raw):
                    return True
            elif self.in_message(str(one.get("value", "")).encode("utf-8", "surrogatepass")):
                return True
        return self.in_text(str(line.get("detail", "")))

    def in_bytes(
        self, content: Any, within: bytes = b"", spans: Sequence[Span] | None = None
    ) -> int:
        """How often a binary file holds it, as UTF-8, UTF-16 or JSON; 0 for an id that is short.

        Parameters
        ----------
        content : bytes-like with `find`
        within : bytes
            Characters with which an id goes on, beside letters and digits.
        spans : where to look, and nowhere else; None is everywhere
        """
        if not self.telling:
            return 0
        raws = {one.encode() for one in self._spellings}
        raws |= {self.user.encode(code) for code in ("utf-16-le", "utf-16-be")}
        where = ((0, len(content)),) if spans is None else spans
        return sum(_occurrences(content, raw, within, span) for raw in raws for span in where)


def _occurrences(content: Any, raw: bytes, within: bytes, span: Span) -> int:
    start, stop = span
    found, at = 0, content.find(raw, start, stop)
    while at >= 0:
        before = content[at - 1 : at] if at else b""
        after = content[at + len(raw) : at + len(raw) + 1]
        apart = not any(one.isalnum() or (one and one in within) for one in (before, after))
        found += apart or _counted(before, len(raw))
        at = content.find(raw, at + 1, stop)
    return found


def _counted(before: bytes, length: int) -> bool:
    """Whether a byte is the length of what follows, as CBOR and MessagePack write it."""
    return bool(before) and before[0] in {0x60 + length, 0xA0 + length, length}
