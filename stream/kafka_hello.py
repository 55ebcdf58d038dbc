"""A first exchange with a broker, which tells wrong security options at once and in words.

kafka-python tries again until its time is over, whatever the reason, and does not name it then. So
one connection is made before it is: TLS, a question that everybody may ask, the password.
"""

import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from kafka.errors import KafkaError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.metadata.api_versions import ApiVersionsRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from stream.deadline import Deadline
from stream.errors import SourceError

PATIENCE_S = 3.0
READ_BYTES = 65_536
_ALERT = b"\x15\x03"  # how TLS says no to who does not speak it


class _Frames(Protocol):
    """The part of kafka-python's protocol without a socket that is used."""

    def send_request(self, request: object) -> int: ...
    def send_bytes(self) -> bytes: ...
    def receive_bytes(self, data: bytes) -> Sequence[tuple[int, Any]]: ...


class _Mechanism(Protocol):
    """The part of a SASL mechanism that is used."""

    def is_done(self) -> bool: ...
    def auth_bytes(self) -> bytes: ...
    def receive(self, auth_bytes: bytes) -> object: ...


def greet(host: str, port: int, security: Mapping[str, object], deadline: Deadline) -> None:
    """Make sure that a client with these options will be let in.

    Parameters
    ----------
    security : mapping
        Of a `KafkaCluster`.

    Raises
    ------
    SourceError
        If it will not, with the reason.
    OSError
        If nothing answers, which may change.
    """
    mode = str(security.get("security_protocol", "PLAINTEXT"))
    context = tls_context(security) if mode.endswith("SSL") else None
    hello = _Hello(f"{host}:{port}", mode, deadline)
    with socket.create_connection((host, port), hello.patience_s) as plain:
        plain.settimeout(hello.patience_s)
        connection = plain if context is None else hello.handshake(plain, context, host)
        with connection:
            hello.speak(connection, security)


def tls_context(security: Mapping[str, object]) -> ssl.SSLContext:
    """What kafka-python makes of the same options at each connection.

    Raises
    ------
    SourceError
        If a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, certificate, key = (security.get(f"ssl_{n}file") for n in ("ca", "cert", "key"))
    try:
        if ca is not None:
            context.load_verify_locations(str(ca))
        else:
            context.load_default_certs()
    except OSError as error:
        raise SourceError(
            f"the file of Kafka's authorities cannot be used: {ca}: {error}; it is to hold PEM"
        ) from error
    if certificate is None:
        return context
    try:
        # Without any password OpenSSL would ask for one at the terminal.
        password = str(security.get("ssl_password") or "")
        context.load_cert_chain(str(certificate), None if key is None else str(key), password)
    except OSError as error:
        raise SourceError(
            f"our certificate for Kafka cannot be used: {certificate}, key {key}: {error}; both "
            "are to be PEM and belong together, and a key that is locked wants its password"
        ) from error
    return context


class _Hello:
    """One exchange, with whom and how long."""

    def __init__(self, address: str, mode: str, deadline: Deadline) -> None:
        self._where = f"Kafka at {address}"
        self._mode = mode
        self._frames = cast(_Frames, KafkaProtocol(client_id="goat"))
        self.patience_s = max(0.001, min(PATIENCE_S, deadline.remaining_s))

    def handshake(self, plain: socket.socket, context: ssl.SSLContext, host: str) -> socket.socket:
        """TLS over a connection."""
        try:
            return context.wrap_socket(plain, server_hostname=host.rstrip("."))
        except ssl.SSLCertVerificationError as error:
            raise SourceError(
                f"{self._where}: its certificate is not trusted: "
                f"{error.verify_message.rstrip('.')}. Is the CA file that of the authority which "
                "signed it, and is it made for this host name?"
            ) from error
        except ssl.SSLError as error:
            raise self._tls_failure(error) from error
        except ConnectionError as error:
            raise SourceError(
                f"{self._where} does not speak TLS: it closes the connection ({error}). Is this "
                "the port of another listener?"
            ) from error

    def speak(self, connection: socket.socket, security: Mapping[str, object]) -> None:
        """Ask what everybody may ask, then what only those may who are let in."""
        try:
            self._ask(connection, ApiVersionsRequest(version=0))
            if self._mode.startswith("SASL"):
                self._authenticate(connection, security)
            else:
                self._look_around(connection)
        except ssl.SSLError as error:
            raise self._tls_failure(error) from error
        except KafkaError as error:
            raise SourceError(
                f"what listens as {self._where} does not answer as Kafka: {error!r}"
            ) from error

    def _look_around(self, connection: socket.socket) -> None:
        try:
            self._ask(connection, MetadataRequest(version=1, topics=[]))
        except ConnectionError as error:
            raise SourceError(
                f"{self._where} does not let in who brings no password: it closes the connection. "
                "Does its listener ask for SASL?"
            ) from error

    def _authenticate(self, connection: socket.socket, security: Mapping[str, object]) -> None:
        name = str(security.get("sasl_mechanism"))
        answer = self._ask(connection, SaslHandshakeRequest(mechanism=name, version=1))
        if answer.error_code:
            offered = ", ".join(answer.mechanisms) or "none"
            raise SourceError(
                f"{self._where} does not take the mechanism {name}: {_told(answer.error_code)}; it "
                f"offers {offered}"
            )
        mechanism = cast(_Mechanism, get_sasl_mechanism(name)(host="", **security))
        while not mechanism.is_done():
            request = SaslAuthenticateRequest(mechanism.auth_bytes(), version=0)
            answer = self._ask(connection, request)
            if answer.error_code:
                raise SourceError(
                    f"{self._where} refuses the user {security.get('sasl_plain_username')!r} by "
                    f"{name}: {answer.error_message or _told(answer.error_code)}. Are name and "
                    "password right, and made for this mechanism?"
                )
            try:
                mechanism.receive(answer.auth_bytes)
            except ValueError as error:
                raise SourceError(
                    f"{self._where} does not prove that it knows the password: {error}"
                ) from error

    def _ask(self, connection: socket.socket, request: object) -> Any:
        """Send a request and await its answer."""
        self._frames.send_request(request)
        connection.sendall(self._frames.send_bytes())
        while True:
            data = connection.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            if data.startswith(_ALERT) and not isinstance(connection, ssl.SSLSocket):
                raise SourceError(f"{self._where} speaks TLS, and is asked without: {self._mode}")
            for _, answer in self._frames.receive_bytes(data):
                return answer

    def _tls_failure(self, error: ssl.SSLError) -> SourceError:
        reason = error.reason or str(error)
        if "ALERT" in reason:
            return SourceError(
                f"{self._where} ends TLS with {reason}. If it asks for certificates: give one, and "
                "its key, signed by an authority that it trusts"
            )
        return SourceError(
            f"{self._where} does not speak TLS as we do: {reason}. Is this the port of another "
            "listener?"
        )


def _told(code: int) -> str:
    return cast(type[KafkaError], for_code(code)).__name__
