"""Whether a connection takes more: what Twisted tells a producer, as something to wait for."""

import asyncio


class Gate:
    """A Twisted push producer that opens and shuts. A connection that ends opens it: nothing is waited for any more."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        """Return when it is open."""
        await self._open.wait()
