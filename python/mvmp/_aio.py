"""Bursts for asyncio: ``async for burst in handle``. Used by the compiled half alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mvmp._mvmp import Burst, NfHandle


async def bursts(handle: NfHandle, n: int) -> AsyncIterator[Burst]:
    """Yields bursts until the stream ends, releasing what is left of each when the next is asked for."""
    while True:
        burst = handle.rx_burst(n)
        if burst:
            try:
                yield burst
            finally:
                burst.pass_on()
            # A busy stream must not starve the loop's other tasks.
            await asyncio.sleep(0)
        elif handle.ended:
            return
        else:
            await _readable(handle.fileno())


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
