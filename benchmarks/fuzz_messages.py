"""Mutated messages, and a slow second reading of each, for `benchmarks/fuzz.py` and the tests."""

import json
import random
from collections.abc import Sequence
from typing import Any

from stream.batch import Headers

_EXTREME: list[Any] = [
    None, True, False, 0, -1, -0.0, 1, 1.0, 7, 0.5, 1e13, -1e300, 5e-324, 10**25, 2**63, -(2**64),
    10**400, float("nan"), float("inf"), float("-inf"), "", " ", "\x00", "a\x00b", "a\tb", "\x85",
    "\x7f", "\u2028", "\ufeff", "\ud800", "\udc00\ud800", "x" * 256, "x" * 257, "é" * 257, "1",
    "NaN", [], {}, [[]], [None], {"a": {"b": []}}, "click", "like", "item", "campaign", "eur",
    "EUR\n", "2026-02-29T00:00:00Z", "2026-11-23T18:34:60Z", "2026-11-23T24:00:00Z",
    "2026-11-23T18:34:00", "2099-01-01T00:00:00.000Z", "1969-12-31T23:59:59Z",
    "0000-00-00T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00+14:00", "2026-11-23T18:34:00.123456789Z",
    "2026-11-23T18:34:00+25:00", "2026-11-23T18:34:00-00:00", "2026-11-23t18:34:00z",
    "２026-11-23T18:34:00Z", "1700000000", 1_700_000_000, "x" * 5_000, "9" * 4_400,
    [0.5, float("nan")], [1e39, 2.0], [0.5], [0.5, 0.5, 0.5], {"text": [1]}, {"text": [1, None]},
    {"text": [0.5, 1e7]}, {"text": "ab"}, {"": [1.0, 2.0]}, {"text": [float("inf"), 0]},
    {"other": [1e6] * 5}, {"text": [[1, 2]]}, {"text": [True, 0.5]}, [1.5] * 4_097,
]  # fmt: skip
_FIELDS = (
    "type", "schema_version", "event_id", "occurred_at", "user_id", "item_id", "kind",
    "impression_id", "refers_to", "campaign_id", "request_id", "position", "propensity", "value",
    "currency", "vectors", "title", "categories", "price", "expires_at", "hours", "zone", "bid",
    "bid_for", "cap", "cap_window_s", "starts_at", "ends_at", "targeting", "pacing", "paused",
    "specversion", "data", "unknown", "__proto__",
)  # fmt: skip
_JUNK = [
    b"", b"null", b"[]", b"{}", b"{}{}", b"\xef\xbb\xbf{}", b"[" * 3_000, b'{"a":' * 500, b"\x00",
    b'"' * 9, b"\xff\xfe", b"{" + b'"a":1,' * 900 + b'"b":2}', b"-", b"1e9999", b"{\x00}",
    b'{"type":"item","vectors":' + b"[" * 20_000,
]  # fmt: skip
_PATCHES = [
    b"{}", b'"', b"\\", b"\\u0000", b"\\ud83d", b"NaN", b"-Infinity", b"01", b"1.", b"[[", b"\x00",
    b"\n", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b",", b":", b"}", b"1e400", b"\x85",
    b"9" * 4_301, b"[" * 150, b'"\xc2\x80"', b"/**/", b"\xe2\x80\xa8",
]  # fmt: skip
_HEADERS: list[tuple[str, bytes]] = [
    ("ce_specversion", b"1.0"), ("ce_specversion", b"0.3"), ("CE_SPECVERSION", b"1.0"),
    ("ce_type", b"com.example.click"), ("ce_type", b""), ("ce_type", b"\xff"), ("ce_type", b"item"),
    ("ce_time", b"0000-00-00"), ("ce_time", b"2026-11-20T00:00:00Z"), ("ce_source", b""),
    ("ce_id", b"\x00"), ("ce_id", b"x" * 300), ("content-type", b"text/plain"),
    ("Content-Type", b"application/json; charset=\xff"), ("ce_", b"1"), ("", b""),
    ("ce_data", b"{}"), ("ce_event_id", b"1"), ("\ud800", b"1"),
    ("ce_datacontenttype", b"a/b+json"),
]  # fmt: skip


class Mutator:
    """Makes messages: some whole, most damaged in one to three ways.

    Parameters
    ----------
    rng : random.Random
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made = 0

    def messages(self, n: int) -> list[bytes]:
        """``n`` messages."""
        return [self._message() for _ in range(n)]

    def headers(self, n: int) -> list[Headers]:
        """``n`` headers, a third of them of a binary CloudEvent that may be whole."""
        return [self._one_header() for _ in range(n)]

    def _one_header(self) -> Headers:
        rng = self._rng
        found: list[tuple[str, bytes]] = []
        if rng.random() < 0.4:
            self._made += 1
            found += [("ce_specversion", b"1.0"), ("ce_id", b"e%d" % self._made)]
            found += [("ce_source", b"/s"), ("ce_type", b"a.click")]
        for _ in range(rng.randrange(4)):
            found.insert(rng.randint(0, len(found)), rng.choice(_HEADERS))
        return tuple(found)

    def _message(self) -> bytes:
        rng = self._rng
        how = rng.random()
        if how < 0.02:
            return rng.choice(_JUNK)
        pairs = list(self._event().items())
        if how > 0.5:
            for _ in range(rng.choice((1, 1, 2, 3))):
                self._damage(pairs)
        if rng.random() < 0.1:
            pairs = self._wrapped(pairs)
        value = _spelled(pairs, ascii_only=rng.random() < 0.5)
        if how < 0.12 or how > 0.92:
            for _ in range(rng.choice((1, 1, 2, 4))):
                value = self._bytes(value)
        if rng.random() < 2e-5:
            value = value.replace(b"{", b'{"giant":"' + b"x" * (1 << 20) + b'",', 1)
        return value

    def _event(self) -> dict[str, Any]:
        """A valid event of any type."""
        rng = self._rng
        self._made += 1
        kind = rng.choice(
            ("click", "click", "click", "impression", "impression", "ad_click", "conversion",
             "item", "item_removed", "campaign", "erase_user")
        )  # fmt: skip
        second = self._made % 86_400
        event: dict[str, Any] = {
            "type": kind,
            "event_id": f"e{self._made}" if rng.random() < 0.97 else f"e{rng.randint(1, 99)}",
            "occurred_at": f"2026-11-{rng.randint(19, 21)}T{second // 3600:02}"
            f":{second // 60 % 60:02}:{second % 60:02}.{rng.randint(0, 999):03}Z",
        }
        if kind not in ("item", "item_removed", "campaign"):
            event["user_id"] = f"user-{rng.randint(0, 400)}"
        if kind not in ("campaign", "erase_user"):
            event["item_id"] = f"item-{rng.randint(0, 200)}"
        event.update(self._further(kind))
        return event

    def _further(self, kind: str) -> dict[str, Any]:
        rng = self._rng
        earlier = f"e{max(1, self._made - rng.randint(1, 400))}"
        found: dict[str, Any] = {}
        if kind == "click":
            found["kind"] = rng.choice(("view", "click", "like", "add_to_cart", "purchase"))
        if kind == "conversion":
            found |= {"refers_to": earlier, "value": rng.random() * 90, "currency": "EUR"}
        if kind in ("click", "ad_click") and rng.random() < 0.4:
            found["impression_id"] = earlier
        if kind == "impression":
            found |= {"position": rng.randint(0, 20), "propensity": 1 - rng.random()}
        if kind == "item":
            found |= {"title": "Blue shoe é", "categories": ["shoes"], "price": 9.5}
            if rng.random() < 0.5:
                found["vectors"] = {"text": [rng.random(), -rng.random()]}
        if kind == "campaign":
            found |= {"campaign_id": f"k{rng.randint(0, 9)}", "bid": 1.5, "bid_for": "impression"}
            found |= {"cap": rng.randint(1, 5), "zone": "Europe/Berlin", "hours": [1, 2, 23]}
        return found

    def _damage(self, pairs: list[tuple[str, Any]]) -> None:
        """Change one field: its value, its name, whether and how often it is there."""
        rng = self._rng
        if not pairs:
            return
        at = rng.randrange(len(pairs))
        how = rng.randrange(7)
        if how <= 2:
            pairs[at] = (pairs[at][0], rng.choice(_EXTREME))
        elif how == 3:
            pairs.insert(at, (rng.choice(_FIELDS), rng.choice(_EXTREME)))
        elif how == 4:
            other = rng.randrange(len(pairs))
            (a, x), (b, y) = pairs[at], pairs[other]
            pairs[at], pairs[other] = (a, y), (b, x)
        elif how == 5:
            pairs.append((pairs[at][0], pairs[rng.randrange(len(pairs))][1]))
        else:
            del pairs[at]

    def _wrapped(self, pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        data = dict(pairs)
        outer: list[tuple[str, Any]] = [("specversion", "1.0"), ("source", "/s")]
        for field, name in (("event_id", "id"), ("type", "type"), ("occurred_at", "time")):
            if field in data:
                outer.append((name, data[field]))
                if self._rng.random() < 0.5:
                    del data[field]
        outer.append(("data", data))
        if self._rng.random() < 0.3:
            self._damage(outer)
        return outer

    def _bytes(self, value: bytes) -> bytes:
        rng = self._rng
        at = rng.randint(0, len(value))
        to = min(len(value), at + rng.choice((0, 1, 1, 2, 8, 60)))
        how = rng.randrange(6)
        if how == 0 and at < len(value):
            return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
        if how == 1:
            return value[:at]
        if how == 2:
            return value[:at] + value[at:to] * 2 + value[to:]
        if how == 3:
            return value[:at] + rng.randbytes(to - at) + value[to:]
        return value[:at] + rng.choice(_PATCHES) + value[to:]


def _spelled(pairs: Sequence[tuple[str, Any]], *, ascii_only: bool) -> bytes:
    """An object with these members, repeated names included."""
    text = ",".join(
        f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=ascii_only)}" for name, value in pairs
    )
    return f"{{{text}}}".encode("utf-8", "surrogatepass")
