"""libdatachannel as a relay, by its node binding (`npm ci` puts it beside the script the first time)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.live.relays import Source
from bench.live.viewers import Viewer

FOLDER = Path(__file__).resolve().parent / "libdatachannel"
_LINE_BYTES = 1 << 20


class LibdatachannelRelay:
    """The script, and the way to ask it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("The process must have its input and output in pipes.")
        self._input, self._output = process.stdin, process.stdout
        self._asking = asyncio.Lock()
        self.pid = process.pid

    async def join(self, viewer: Viewer) -> None:
        answer = await self.ask(viewer=await viewer.offer())
        await viewer.accept(answer["sdp"])

    async def ask(self, **asked: object) -> dict[str, str]:
        async with self._asking:
            self._input.write(json.dumps(asked).encode() + b"\n")
            line = await self._output.readline()
        if not line:
            raise RuntimeError("The libdatachannel relay ended; what it wrote stands above.")
        answer: dict[str, str] = json.loads(line)
        return answer


@asynccontextmanager
async def running(source: Source) -> AsyncIterator[LibdatachannelRelay]:
    """Raises FileNotFoundError without node and npm."""
    if not (FOLDER / "node_modules").exists():
        install = await asyncio.create_subprocess_exec(
            "npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=FOLDER
        )
        if await install.wait():
            raise RuntimeError(f"`npm ci` in {FOLDER} failed.")
    process = await asyncio.create_subprocess_exec(
        "node", "relay.mjs", cwd=FOLDER, limit=_LINE_BYTES,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    relay = LibdatachannelRelay(process)
    try:
        offer = await relay.ask(upstream=1)
        await relay.ask(answer=await source.ask(offer["sdp"]))
        yield relay
    finally:
        process.kill()
        await process.wait()
