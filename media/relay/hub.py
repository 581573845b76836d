"""The relay of this process: an event loop in a thread of its own, so that pictures flow whatever the pages do."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from media.relay.camera import Camera
from media.relay.terms import Network, UpstreamRefused, Upstreams

# Ring's answer may take 15 s; ICE gathering with a silent STUN server 5 s.
WATCH_TIMEOUT_S: Final = 30.0
THREADS: Final = 32


class Relay:
    """Cameras that are being watched. `watch`, `drop` and the rest may be called from any thread; the loop starts by itself."""

    def __init__(self, *, upstreams: Upstreams, network: Network) -> None:
        self._upstreams = upstreams
        self._network = network
        self._cameras: dict[str, Camera] = {}
        self._ending: set[Camera] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False

    def watch(self, key: str, *, viewer_id: int, offer_sdp: str) -> str:
        """
        Answer a viewer's offer with the picture of the camera `key`, opening a session for it if there is none.

        Blocks. Raises UpstreamRefused or ViewerRefused.
        """
        return self._call(self._watch(key, viewer_id, offer_sdp), timeout_s=WATCH_TIMEOUT_S)

    async def answer(self, key: str, *, viewer_id: int, offer_sdp: str) -> str:
        """The same from another event loop, which goes on meanwhile."""
        future = asyncio.run_coroutine_threadsafe(self._watch(key, viewer_id, offer_sdp), self.loop())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), WATCH_TIMEOUT_S)
        except TimeoutError:
            raise UpstreamRefused("unavailable", is_final=False) from None

    def drop(self, viewer_id: int, reason: str) -> None:
        """End one viewer's connection, if it is one of ours. Does not block."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._drop, viewer_id, reason)

    def lease_ended(self, lease_id: int, reason: str) -> None:
        """A session of ours was ended by somebody else. Does not block."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._lease_ended, lease_id, reason)

    def standing(self) -> tuple[list[int], list[int]]:
        """The viewers and the leases held now. From any thread."""
        cameras = [*self._cameras.values(), *self._ending]
        return (
            [viewer for camera in cameras for viewer in camera.viewer_ids],
            [lease for camera in cameras for lease in camera.lease_ids],
        )

    def has_picture_of(self, key: str) -> bool:
        """True while a session of this camera is open here: one more viewer costs Ring nothing."""
        camera = self._cameras.get(key)
        return camera is not None and not camera.is_over

    def close(self, reason: str = "closed") -> None:
        """End everything and wait for it; the relay may be used again."""
        if self._loop is not None:
            self._call(self._close(reason), timeout_s=WATCH_TIMEOUT_S)

    # --- in the loop ---

    async def _watch(self, key: str, viewer_id: int, offer_sdp: str) -> str:
        if self._is_closing:
            raise UpstreamRefused("unavailable", is_final=False)
        camera = self._cameras.get(key)
        if camera is None or camera.is_over:
            camera = Camera(key, upstreams=self._upstreams, network=self._network, on_end=self._ended)
            self._cameras[key] = camera
        return await camera.join(viewer_id, offer_sdp)

    def _ended(self, camera: Camera) -> None:
        if self._cameras.get(camera.key) is camera:
            del self._cameras[camera.key]
        self._ending.add(camera)
        asyncio.get_running_loop().create_task(self._forget(camera))

    async def _forget(self, camera: Camera) -> None:
        await camera.closed()
        self._ending.discard(camera)

    def _drop(self, viewer_id: int, reason: str) -> None:
        for camera in list(self._cameras.values()):
            if camera.drop(viewer_id, reason):
                return

    def _lease_ended(self, lease_id: int, reason: str) -> None:
        for camera in list(self._cameras.values()):
            camera.lease_ended(lease_id, reason)

    async def _close(self, reason: str) -> None:
        self._is_closing = True
        try:
            cameras = [*self._cameras.values(), *self._ending]
            for camera in cameras:
                camera.end(reason)
            for camera in cameras:
                await camera.closed()
        finally:
            self._is_closing = False

    # --- the thread ---

    def _call[T](self, work: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self.loop())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise UpstreamRefused("unavailable", is_final=False) from None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The relay's event loop, started if it does not run yet."""
        with self._lock:
            if self._loop is None:
                # The plain selector loop, whatever loop the server prefers: it has the sockets we send on.
                loop = asyncio.SelectorEventLoop()
                # They wait for Ring, most of the time.
                loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="live-relay"))
                threading.Thread(target=loop.run_forever, name="live-relay", daemon=True).start()
                self._loop = loop
            return self._loop
