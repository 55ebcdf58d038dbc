"""One OpenAI-compatible endpoint: JSON out, JSON in, or a reason why not.

httpx, because it is here already (qdrant-client stands on it), is typed, and bounds connecting,
writing and reading by separate timeouts.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, cast

import httpx
from pydantic import SecretStr

from consumers.errors import EndpointFailed

_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_SHOWN: Final = 200


@dataclass(slots=True)
class Usage:
    """What a model has cost so far.

    Attributes
    ----------
    requests, retries : int
        Attempts made, and how many of them were repeats.
    prompt_tokens, answer_tokens : int
        As the server counts them.
    refused : reason -> how often
    prompt_price, answer_price : float
        Money for a million tokens.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    prompt_price: float = 0.0
    answer_price: float = 0.0

    @property
    def cost(self) -> float:
        """Money so far."""
        money = self.prompt_tokens * self.prompt_price + self.answer_tokens * self.answer_price
        return money / 1e6

    def count(self, answer: Mapping[str, Any]) -> None:
        """Take in the token counts of an answer; one that has none adds nothing."""
        said = answer.get("usage")
        told = cast(Mapping[str, Any], said) if isinstance(said, dict) else {}
        self.prompt_tokens += _whole(told.get("prompt_tokens"))
        self.answer_tokens += _whole(told.get("completion_tokens"))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often an endpoint is tried.

    Attributes
    ----------
    timeout_s : float
        For connecting, and between two pieces of an answer.
    attempts : int
        In all, the first one included.
    backoff_s : float
        Before the second attempt; doubled before each further one.
    longest_wait_s : float
        No wait is longer; a server that asks for more (``Retry-After``) is given up at once.
    per_minute : float
        Attempts a minute at most.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    per_minute: float = 600.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.per_minute <= 0:
            raise ValueError(
                f"at least one attempt at a positive rate: got {self.attempts} at"
                f" {self.per_minute} a minute"
            )


@dataclass(frozen=True, slots=True)
class Pace:
    """Time as two functions, in seconds: wall time since the epoch, and waiting."""

    now_s: Callable[[], float]
    wait_s: Callable[[float], None]


class Endpoint:
    """Posts to one server, again where that may help, never faster than allowed.

    Parameters
    ----------
    base : str
        URL up to and without the resource: ``https://host/v1``.
    key : SecretStr, optional
        Sent as a bearer token; in no message, no repr, no log.
    patience : Patience
    pace : Pace
    jitter : () -> float
        In [0, 1): spreads the retries of many clients over half to all of each wait.
    """

    def __init__(
        self,
        base: str,
        key: SecretStr | None,
        *,
        patience: Patience,
        pace: Pace,
        jitter: Callable[[], float],
    ) -> None:
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._base = base.rstrip("/")
        self._patience = patience
        self._pace = pace
        self._jitter = jitter
        self._free_s = pace.now_s()
        # Redirects are not followed: the key is for this server only.
        self._client = httpx.Client(headers=headers, timeout=patience.timeout_s)
        self.usage = Usage()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, resource: str, body: Mapping[str, object]) -> dict[str, Any]:
        """The JSON object that the server answers.

        Raises
        ------
        EndpointFailed
            The server refuses, asks for a longer wait than allowed, or gave no usable answer in
            all attempts. Each failed attempt is counted by its reason in ``usage.refused``.
        """
        url = f"{self._base}/{resource}"
        for attempt in range(1, self._patience.attempts + 1):
            try:
                answer = self._once(url, body)
            except _Failed as failed:
                self.usage.refused[failed.reason] += 1
                wait_s = self._backoff(attempt) if failed.wait_s is None else failed.wait_s
                self._give_up(url, attempt, failed, wait_s)
                self.usage.retries += 1
                self._pace.wait_s(wait_s)
                continue
            self.usage.count(answer)
            return answer
        raise AssertionError("the last attempt answers or gives up")

    def _give_up(self, url: str, attempt: int, failed: "_Failed", wait_s: float) -> None:
        said = f"{url}: {failed.detail}"
        if not failed.again:
            raise EndpointFailed(failed.reason, said) from failed
        if wait_s > self._patience.longest_wait_s:
            limit = self._patience.longest_wait_s
            raise EndpointFailed(failed.reason, f"{said}; wait {wait_s:g} s > {limit:g} s")
        if attempt == self._patience.attempts:
            raise EndpointFailed(failed.reason, f"{said}, in {attempt} attempts") from failed

    def _backoff(self, attempt: int) -> float:
        wait_s = self._patience.backoff_s * 2.0 ** (attempt - 1)
        return min(wait_s, self._patience.longest_wait_s) * (0.5 + 0.5 * self._jitter())

    def _once(self, url: str, body: Mapping[str, object]) -> dict[str, Any]:
        self._wait_for_turn()
        self.usage.requests += 1
        try:
            response = self._client.post(url, json=body)
        except httpx.TimeoutException as error:
            raise _Failed("timeout", f"no answer in {self._patience.timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise _Failed("transport", str(error)) from error
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(response)
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            said = f"{len(response.content)} bytes that are not JSON: {error}"
            raise _Failed("not-json", said) from error
        if not isinstance(answer, dict):
            raise _Failed("not-object", f"JSON of type {type(answer).__name__}, not an object")
        return cast(dict[str, Any], answer)

    def _refusal(self, response: httpx.Response) -> "_Failed":
        status = response.status_code
        again = status in _AGAIN
        asked = response.headers.get("Retry-After")
        wait_s = _retry_after(asked, self._pace.now_s()) if again and asked else None
        return _Failed(f"http-{status}", response.text[:_SHOWN], again=again, wait_s=wait_s)

    def _wait_for_turn(self) -> None:
        now_s = self._pace.now_s()
        if now_s < self._free_s:
            self._pace.wait_s(self._free_s - now_s)
        self._free_s = max(now_s, self._free_s) + 60.0 / self._patience.per_minute


class _Failed(Exception):
    """One attempt failed."""

    def __init__(
        self, reason: str, detail: str, *, again: bool = True, wait_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.again = again
        self.wait_s = wait_s


def _retry_after(value: str, now_s: float) -> float | None:
    """Seconds, from seconds or an HTTP date (RFC 9110, 10.2.3); None for anything else."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
    except ValueError:
        return None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
