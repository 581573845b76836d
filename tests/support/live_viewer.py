"""A program that watches a camera by our WHEP endpoint, with aiortc."""

import asyncio
from typing import Any, Self
from urllib.parse import urljoin

import requests
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.support.installation import Installation, Person


class LiveViewer:
    """Use as an async context manager; `token` is an API token of the tenant, or `person` somebody who is signed in."""

    def __init__(
        self,
        installed: Installation,
        *,
        token: str = "",
        person: Person | None = None,
        camera: str,
        tenant: str = "acme",
        path: str = "relay",
    ) -> None:
        self._endpoint = f"{installed.portal.url}/t/{tenant}/live/{camera}/whep?path={path}"
        self._headers = {"Authorization": f"Bearer {token}"} if person is None else person.as_script()
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.session = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._peer.close()

    async def join(self) -> None:
        """Open a viewing, and see its first picture."""
        await self.ask()
        await self.see()

    async def offer(self) -> None:
        """Have the offer ready, where many are to ask at one moment."""
        if not self._peer.getTransceivers():
            self._peer.addTransceiver("video", direction="recvonly")
            await self._peer.setLocalDescription(await self._peer.createOffer())

    async def ask(self) -> None:
        """Open a viewing."""
        await self.offer()
        answer = await asyncio.to_thread(
            requests.post,
            self._endpoint,
            data=self._peer.localDescription.sdp,
            headers={**self._headers, "Content-Type": "application/sdp"},
            timeout=40,
        )
        assert answer.status_code == 201, answer.text
        self.session = urljoin(self._endpoint, answer.headers["Location"])
        await self._peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))

    async def see(self) -> None:
        """Wait for a whole picture."""
        await asyncio.wait_for(self._peer.getReceivers()[0].track.recv(), 20)

    def look_away(self) -> None:
        """Decode nothing more, where many watch from one process; what comes is received and reported as before."""
        receiver: Any = self._peer.getReceivers()[0]
        queue = receiver._RTCRtpReceiver__decoder_queue
        put = queue.put
        # Only the order to stop gets through to the decoder's thread.
        queue.put = lambda item: put(item) if item is None else None

    async def sees_the_end(self) -> None:
        """Wait until the relay takes the picture away."""
        try:
            async with asyncio.timeout(10):
                while True:
                    await self._peer.getReceivers()[0].track.recv()
        except MediaStreamError:
            return

    @property
    def is_cut_off(self) -> bool:
        """Whether the other side closed the connection."""
        return self._peer.connectionState == "closed"

    async def leave(self) -> None:
        ended = await asyncio.to_thread(requests.delete, self.session, headers=self._headers, timeout=30)
        assert ended.status_code == 200, ended.text

    async def why_it_ended(self) -> str:
        """The reason the session's address gives; "" while it is open."""
        head = await asyncio.to_thread(requests.head, self.session, headers=self._headers, timeout=30)
        return str(head.headers.get("Session-End", ""))
