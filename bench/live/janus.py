"""
Debian's Janus as a relay: a room of its videoroom plugin, the camera its publisher, every viewer a subscriber.

Janus gathers no candidate on the loopback interface: the machine needs another address.
"""

import asyncio
import re
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.live.relays import Source
from bench.live.viewers import Viewer
from bench.server import free_port, wait_for_port

ROOM = 1
_PLUGIN = "janus.plugin.videoroom"
_PLUGINS = "/usr/lib/{}/janus"


class JanusRelay:
    """A session with a Janus of our own, over its HTTP interface."""

    def __init__(self, pid: int, address: str, http: aiohttp.ClientSession) -> None:
        self.pid = pid
        self._address = address
        self._http = http
        self._events: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._camera = self._publisher = 0
        self._has_camera = asyncio.Event()

    async def open(self) -> None:
        self._address += f"/{(await self._post(self._address, janus='create'))['data']['id']}"

    async def listen(self) -> None:
        """Bring every event to the handle it is for."""
        while True:
            async with self._http.get(self._address, params={"maxev": "10"}) as answer:
                for event in await answer.json():
                    if event.get("janus") == "webrtcup" and event["sender"] == self._camera:
                        self._has_camera.set()
                    elif event.get("janus") == "event":
                        self._events[event["sender"]].put_nowait(event)

    async def publish(self, source: Source) -> None:
        handle = self._camera = await self._attach()
        await self._say(
            handle, {"request": "create", "room": ROOM, "publishers": 1, "videocodec": "h264", "h264_profile": "42001f"}
        )  # fmt: skip
        joined = await self._ask(handle, {"request": "join", "ptype": "publisher", "room": ROOM})
        self._publisher = joined["plugindata"]["data"]["id"]
        offer = await source.ask("offer")
        answered = await self._ask(
            handle, {"request": "publish"}, jsep={"type": "offer", "sdp": _plain(offer)}
        )
        source.pipe.send(answered["jsep"]["sdp"])
        # Until then nobody finds it.
        await asyncio.wait_for(self._has_camera.wait(), 20)

    async def join(self, viewer: Viewer) -> None:
        viewer.ask()
        handle = await self._attach()
        offered = await self._ask(
            handle,
            {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": self._publisher}]},
        )
        answer = await viewer.answer(offered["jsep"]["sdp"])
        await self._ask(handle, {"request": "start"}, jsep={"type": "answer", "sdp": _plain(answer)})

    async def _attach(self) -> int:
        handle = int((await self._post(self._address, janus="attach", plugin=_PLUGIN))["data"]["id"])
        self._events[handle] = asyncio.Queue()
        return handle

    async def _say(self, handle: int, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        return await self._post(f"{self._address}/{handle}", janus="message", body=body, **more)

    async def _ask(self, handle: int, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        await self._say(handle, body, **more)
        event = await asyncio.wait_for(self._events[handle].get(), 20)
        if error := event["plugindata"]["data"].get("error"):
            raise RuntimeError(f"Janus: {error}")
        return event

    async def _post(self, address: str, **content: Any) -> dict[str, Any]:
        async with self._http.post(address, json={"transaction": uuid.uuid4().hex, **content}) as answer:
            said: dict[str, Any] = await answer.json()
        if "error" in said:
            raise RuntimeError(f"Janus: {said['error']['reason']}")
        return said


def _plain(sdp: str) -> str:
    """With one fingerprint: Janus takes the last, which is not the one that counts."""
    return re.sub(r"a=fingerprint:sha-(384|512) .*\r\n", "", sdp)


def _configuration(folder: Path, port: int) -> None:
    (folder / "janus.jcfg").write_text(
        "general: {\n"
        f'  configs_folder = "{folder}"\n'
        "  debug_level = 3\n"
        "}\n"
        "media: { ipv6 = false }\n"
        "plugins: { disable = "
        '"libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,'
        "libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,"
        'libjanus_voicemail.so" }\n'
        "transports: { disable = "
        '"libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so" }\n'
    )
    (folder / "janus.transport.http.jcfg").write_text(
        f'general: {{\n  json = "compact"\n  http = true\n  port = {port}\n  ip = "127.0.0.1"\n}}\nadmin: {{ admin_http = false }}\n'
    )


@asynccontextmanager
async def running(source: Source) -> AsyncIterator[JanusRelay]:
    """Raises FileNotFoundError where Janus is not installed."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        _configuration(folder, port)
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                "janus", "--config", str(folder / "janus.jcfg"), "--configs-folder", name, stdout=log, stderr=log
            )  # fmt: skip
        try:
            await asyncio.to_thread(wait_for_port, port)
            async with aiohttp.ClientSession() as http:
                relay = JanusRelay(process.pid, f"http://127.0.0.1:{port}/janus", http)
                await relay.open()
                listening = asyncio.create_task(relay.listen())
                try:
                    await relay.publish(source)
                    yield relay
                finally:
                    listening.cancel()
        finally:
            process.kill()
            await process.wait()
