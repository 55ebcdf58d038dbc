"""In front of a server, one that lets in only who shows a certificate: TLS at both its ends."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.system.authority import HOST

READ_BYTES = 65_536


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(READ_BYTES):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # either end has gone
    finally:
        sink.close()


@contextmanager
def certified(
    port: int, behind: int, lets_in: ssl.SSLContext, goes_on: ssl.SSLContext
) -> Iterator[None]:
    """Take connections at ``port`` on to another, until the block ends.

    Parameters
    ----------
    lets_in : SSLContext of a server
    goes_on : SSLContext of a client
    """
    loop, ready = asyncio.new_event_loop(), threading.Event()
    done = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, behind, ssl=goes_on)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    async def serve() -> None:
        async with await asyncio.start_server(one, HOST, port, ssl=lets_in):
            ready.set()
            await done.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
