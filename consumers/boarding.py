"""The board beside a run: `goat serve` on loopback in a thread, over the run's own index."""

import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from consumers.errors import SettingsError
from consumers.finder import IndexFinder
from consumers.index import VectorIndex
from consumers.logs import announce
from consumers.settings import Settings
from stream.clock import SystemClock

LOOPBACK = "127.0.0.1"


@contextmanager
def boarded(settings: Settings, index: VectorIndex) -> Generator[None]:
    """Serve the board inside the block.

    Parameters
    ----------
    index : VectorIndex
        Of the run; searched by several threads where it is the embedded one.

    Raises
    ------
    SettingsError
        If the extra `serve` is not installed, or the port is taken.
    """
    try:
        import uvicorn

        from consumers import serving
    except ImportError as error:
        raise SettingsError(f"--board needs the extra serve: {error}") from error
    own = settings.model_copy(update={"host": LOOPBACK})
    embedded = settings.qdrant is None
    with ExitStack() as stack:
        find = (lambda: IndexFinder(index, owned=False)) if embedded else None
        built = serving.build(own, [], SystemClock(), stack, find=find)
        config = serving.http_config(own)
        config.app = built.gate
        listening = stack.enter_context(_bound(settings.port))
        built.start(stack)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="board", daemon=True)
        thread.start()
        url = f"http://{LOOPBACK}:{settings.port}/board"
        announce(f"the board is at {url}", "board", url=url)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(serving.GRACE_S + 1)


def _bound(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port), backlog=128)
    except OSError as error:
        raise SettingsError(
            f"--board: {LOOPBACK}:{port}: {error.strerror}: name a --port"
        ) from error
