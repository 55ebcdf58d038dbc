"""Damage to files, for `benchmarks/fuzz.py` and the tests: what disks, crashes and people do."""

import json
import random
import struct
from collections.abc import Mapping
from typing import Any, cast

_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308, "", "x",
    "0" * 64, [], {}, [[]], [None], {"a": 1}, "../../x", "\x00", [0] * 300, float("nan"),
]  # fmt: skip
_JUNK = [
    b"", b"\x00", b"null", b"[]", b"{}", b'"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
    b"\x00" * 4_096, b"1e999", b"9" * 5_000, b"\n\n\n", b"ARROW1\x00\x00", b"PAR1",
    struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 0),
]  # fmt: skip


class FileMutator:
    """Damages the contents of files.

    Parameters
    ----------
    rng : random.Random
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def mutated(self, name: str, files: Mapping[str, bytes]) -> bytes | None:
        """Another content for one of these files; None for none at all."""
        rng, content = self._rng, files[name]
        how = rng.random()
        if how < 0.02:
            return None
        if how < 0.05:
            return rng.choice(_JUNK)
        if how < 0.08:
            return files[rng.choice(list(files))]
        if how < 0.55 and name.endswith((".json", ".jsonl")):
            return self._json(content)
        if how < 0.55 and name.endswith(".safetensors"):
            return self._safetensors(content)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            content = self._bytes(content)
        return content

    def _bytes(self, content: bytes) -> bytes:
        rng = self._rng
        at = rng.randint(0, len(content))
        to = min(len(content), at + rng.choice((1, 1, 2, 8, 64, 512)))
        how = rng.randrange(7)
        if how <= 1 and at < len(content):
            flipped = content[at] ^ 1 << rng.randrange(8)
            return content[:at] + bytes([flipped]) + content[at + 1 :]
        if how == 2:
            return content[:at]
        if how == 3:
            return content[:at] + content[to:]
        if how == 4:
            return content[:at] + bytes(to - at) + content[to:]
        if how == 5:
            return content[:at] + content[at:to] * 2 + content[to:]
        return content[:at] + rng.randbytes(rng.choice((1, 4, 32))) + content[at:]

    def _json(self, content: bytes) -> bytes:
        """Change a value, a name or the depth of one line."""
        lines = content.splitlines(keepends=True)
        at = self._rng.randrange(len(lines)) if lines else 0
        whole = content if not lines or content.lstrip()[:2] in (b"{\n", b"[\n") else lines[at]
        try:
            plain = json.loads(whole)
        except ValueError:
            return self._bytes(content)
        text = json.dumps(self._altered(plain))
        if self._rng.random() < 0.05:
            text = text[:-1] + ',"deep":' + "[" * 50_000 + "]" * 50_000 + text[-1:]
        changed = text.encode("utf-8", "surrogatepass")
        if whole is content:
            return changed
        ending = b"\n" if whole.endswith(b"\n") else b""
        return b"".join([*lines[:at], changed + ending, *lines[at + 1 :]])

    def _altered(self, plain: Any) -> Any:
        """The same value with something in it changed."""
        within = self._rng.random() < 0.9
        if isinstance(plain, dict) and plain and within:
            return self._altered_object(cast("dict[str, Any]", plain))
        if isinstance(plain, list) and plain and within:
            return self._altered_list(plain)
        if self._rng.random() < 0.5:
            return self._near(plain)
        return self._rng.choice(_VALUES)

    def _altered_object(self, plain: dict[str, Any]) -> dict[str, Any]:
        rng = self._rng
        name, how = rng.choice(list(plain)), rng.random()
        if how < 0.1:
            return {k: v for k, v in plain.items() if k != name}
        if how < 0.15:
            return {**plain, rng.choice(("x", "", "format", name.upper())): plain[name]}
        return {**plain, name: self._altered(plain[name])}

    def _altered_list(self, plain: list[Any]) -> list[Any]:
        at, how = self._rng.randrange(len(plain)), self._rng.random()
        if how < 0.1:
            return [*plain[:at], *plain[at + 1 :]]
        if how < 0.2:
            return [*plain[:at], plain[at], *plain[at:]]
        return [*plain[:at], self._altered(plain[at]), *plain[at + 1 :]]

    def _near(self, plain: Any) -> Any:
        """Another value of the same type, where there is one close by."""
        rng = self._rng
        if isinstance(plain, str) and plain:
            at = rng.randrange(len(plain))
            return plain[:at] + rng.choice("0f\u00e9 ") + plain[at + 1 :]
        if isinstance(plain, int) and not isinstance(plain, bool):
            return plain + rng.choice((-1, 1, 1 << 40))
        if isinstance(plain, float):
            return plain * rng.choice((1.0000001, -1, 1e300))
        return rng.choice(_VALUES)

    def _safetensors(self, content: bytes) -> bytes:
        """Change what the head says: its length, or the shapes, types and places of arrays."""
        rng = self._rng
        (size,) = struct.unpack("<Q", content[:8].ljust(8, b"\x00"))
        if rng.random() < 0.3:
            other = rng.choice(
                (0, 1, size - 1, size + 1, size + 8, 1 << 31, 1 << 60, (1 << 64) - 1)
            )
            return struct.pack("<Q", max(other, 0)) + content[8:]
        try:
            head = json.loads(content[8 : 8 + size])
        except ValueError:
            return self._bytes(content)
        changed = json.dumps(self._altered(head)).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(changed)) + changed + content[8 + size :]
