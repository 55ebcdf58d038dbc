"""A connection to Qdrant's server over gRPC, and its errors as ours."""

import json
import re
import ssl
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from consumers.errors import PublishError, ServerUnavailable, SettingsError

OLDEST = (1, 16)  # the first with `update_filter`
# A write that is sent twice does no harm, because it is fenced; so the channel itself may retry.
_RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "qdrant.Points"}, {"service": "qdrant.Qdrant"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_UNREACHABLE = {
    grpc.StatusCode.UNAVAILABLE: (
        "is it running, is this its gRPC port, and does it want a certificate of ours"
        " (GOAT_QDRANT_CERTIFICATE)?"
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: "it is overloaded, or the timeout too short",
    grpc.StatusCode.UNAUTHENTICATED: "give its API key in GOAT_QDRANT_API_KEY",
    grpc.StatusCode.PERMISSION_DENIED: "the API key may not do this",
}

_NO_TLS = ("CERTIFICATE_VERIFY_FAILED", "Tls handshake failed", "Peer name")
UNTRUSTED = (
    "its certificate is not trusted: is GOAT_QDRANT_CA the authority that signed it, is it made for"
    " this host name, and does the server speak TLS?"
)
UNKNOWN = (
    "it wants a certificate of ours, signed by an authority that it trusts: give one in"
    " GOAT_QDRANT_CERTIFICATE and GOAT_QDRANT_KEY"
)


def connect(
    url: str,
    *,
    grpc_port: int,
    api_key: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    timeout_s: float,
) -> QdrantClient:
    """Connect and check that client and server understand each other.

    Raises
    ------
    ServerUnavailable
        If nothing answers, it refuses us, or its version is too far from the client's.
    SettingsError
        If a file for TLS cannot be used.
    """
    tls(ca, certificate, key)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerUnavailable(f"{url!r} is not the URL of a server, http[s]://host[:port]")
    options: dict[str, object] = {
        "grpc.enable_retries": 1,
        "grpc.service_config": json.dumps(_RETRY),
        "grpc.keepalive_time_ms": 30_000,
    }
    files = {"root_certificates": ca, "certificate_chain": certificate, "private_key": key}
    options |= {name: path.read_bytes() for name, path in files.items() if path is not None}
    with warnings.catch_warnings():
        if parts.hostname in ("127.0.0.1", "localhost", "::1"):
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        client = QdrantClient(
            url=url,
            grpc_port=grpc_port,
            prefer_grpc=True,
            api_key=api_key,
            timeout=ceil(timeout_s),
            grpc_options=options,
            check_compatibility=False,  # only warns, from a thread; ours refuses
            cloud_inference=True,  # else it searches every point for texts to embed
        )
    try:
        with translated(url):
            check_version(client.info().version, installed_version("qdrant-client"), url)
            client.get_aliases()  # the version is told to anyone, this only to those with the key
    except ServerUnavailable:
        client.close()
        raise
    return client


def tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Whom we trust and who we are; libraries say late that a file is none, and not which.

    Raises
    ------
    SettingsError
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise SettingsError(
            f"the file of Qdrant's authorities cannot be used: {ca}: {error}; it is to hold PEM"
        ) from error
    if certificate is not None:
        try:
            # Without any password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certificate, key, "")
        except OSError as error:
            raise SettingsError(
                f"our certificate for Qdrant cannot be used: {certificate}, key {key}: {error}; "
                "both are to be PEM and belong together, and the key is not to be locked"
            ) from error
    return context


def check_version(server: str, client: str, url: str) -> None:
    """Refuse a server that is too old, or more than one minor version from the client.

    Raises
    ------
    ServerUnavailable
    """
    ours, theirs = _release(client), _release(server)
    if theirs < OLDEST or theirs[0] != ours[0] or abs(theirs[1] - ours[1]) > 1:
        raise ServerUnavailable(
            f"{url} is Qdrant {server}; qdrant-client {client} works with versions within one "
            f"minor of it, and fenced writes need {OLDEST[0]}.{OLDEST[1]}: change one of the two"
        )


@contextmanager
def translated(where: str) -> Generator[None]:
    """Turn what the client raises into our errors, which name the server and say what to do.

    Raises
    ------
    ServerUnavailable
        If the server cannot be reached, refuses us or has no room.
    PublishError
        If it refuses what was asked.
    """
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise ServerUnavailable(f"{where}: {error}") from error
    except grpc.RpcError as error:
        code, details = status(error)
        if code in _UNREACHABLE:
            untrusted = any(sign in details for sign in _NO_TLS)
            hint = UNTRUSTED if untrusted else _UNREACHABLE[code]
            raise ServerUnavailable(f"{where}: {details or code}: {hint}") from error
        raise PublishError(f"{where}: {details or code}") from error


def status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Code and message of a failed call."""
    if isinstance(error, grpc.Call):
        return error.code(), error.details() or ""
    return grpc.StatusCode.UNKNOWN, str(error)


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
