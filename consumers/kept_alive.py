"""HTTP/1.1 to one server over connections that are kept, each exchange under one deadline.

A search takes the server half a millisecond; the clients at hand take as much of this process's
time, and their timeouts are for each read, so that a server that trickles holds a thread for as
long as it likes. Here a request is written whole, the answer goes through the parser that the HTTP
server uses as well, and no wait is longer than what is left of the deadline.
"""

import socket
import ssl
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

from stream.deadline import Deadline

IDLE = 64  # connections kept
READ_BYTES = 65_536


class KeptAlive:
    """Asks a server; any number of threads at once.

    Parameters
    ----------
    url : str
        ``http[s]://host[:port]``.
    headers : sent with every request
    tls : SSLContext, optional
        Whom it trusts over ``https``, and who it is; the system's authorities, and nobody, if not
        given.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        secure = parts.scheme == "https"
        self._tls = (tls or ssl.create_default_context()) if secure else None
        lines = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
        self._idle: deque[socket.socket] = deque()

    def ask(
        self, method: str, path: str, deadline: Deadline, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Send a request that may be sent twice; status and body of the answer.

        Raises
        ------
        OSError
            If there is none by the deadline, or it is not HTTP.
        """
        request = b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (
            method.encode(), path.encode(), self._head, len(body), body,
        )  # fmt: skip
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:
                break
            try:
                return self._exchange(kept, request, deadline)
            except ConnectionError:
                continue  # the server had given it up meanwhile
        return self._exchange(self._connect(deadline), request, deadline)

    def close(self) -> None:
        """Close what is idle; idempotent."""
        while self._idle:
            self._idle.pop().close()

    def _connect(self, deadline: Deadline) -> socket.socket:
        made = socket.create_connection((self._host, self._port), _left(deadline))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return made
        try:
            return self._tls.wrap_socket(made, server_hostname=self._host)
        except OSError:
            made.close()
            raise

    def _exchange(
        self, connection: socket.socket, request: bytes, deadline: Deadline
    ) -> tuple[int, bytes]:
        answer = _Answer()
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
            while not answer.whole:
                connection.settimeout(_left(deadline))
                data = connection.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                answer.parser.feed_data(data)
        except HttpParserError as error:
            connection.close()
            raise OSError(f"what answers is not HTTP: {error}") from error
        except OSError:
            connection.close()
            raise
        if answer.kept_alive and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer.parser.get_status_code(), b"".join(answer.body)


class _Answer:
    """What the parser calls as it goes on."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.whole = self.kept_alive = False
        self.parser = HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.kept_alive = self.parser.should_keep_alive()  # forgotten when it has all been read

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.whole = True


def _left(deadline: Deadline) -> float:
    if deadline.passed:
        raise TimeoutError("the deadline has passed")
    return deadline.remaining_s
