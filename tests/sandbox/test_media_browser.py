"""A real browser watches a camera of the sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import async_playwright

from sandbox.whep import LiveSession

pytestmark = pytest.mark.browser

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

PAGE = """<!doctype html><title>viewer</title><video autoplay muted playsinline></video>
<script type="module">
const video = document.querySelector("video");
const peer = new RTCPeerConnection();
peer.addTransceiver("video", {direction: "recvonly"});
peer.addTransceiver("audio", {direction: "recvonly"});
peer.ontrack = ({track}) => { if (track.kind === "video") video.srcObject = new MediaStream([track]); };
await peer.setLocalDescription();
// A browser whose machine has no network never says that it has gathered all.
await Promise.race([
  new Promise((done) => peer.addEventListener("icegatheringstatechange",
    () => peer.iceGatheringState === "complete" && done())),
  new Promise((done) => setTimeout(done, 1000)),
]);
const response = await fetch("/whep", {method: "POST", body: peer.localDescription.sdp});
await peer.setRemoteDescription({type: "answer", sdp: await response.text()});
window.pixels = () => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 160, height: 90});
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0, 160, 90);
  return Array.from(pen.getImageData(0, 0, 160, 90).data);
};
window.peer = peer;
window.video = video;
</script>"""


@pytest.fixture
async def address(camera):
    """A page that plays the camera, and the WHEP endpoint it asks."""
    sessions: list[LiveSession] = []

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def whep(request: web.Request) -> web.Response:
        session = await LiveSession.open(
            offer_sdp=await request.text(), camera=camera, cap_s=60, on_end=lambda *_: None
        )
        sessions.append(session)
        return web.Response(status=201, text=session.answer_sdp, content_type="application/sdp")

    application = web.Application()
    application.add_routes([web.get("/", page), web.post("/whep", whep)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    for session in sessions:
        await session.close()
    await runner.cleanup()


async def test_browser_plays_the_camera_and_the_picture_changes(address):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(address)

        await page.wait_for_function("window.video && video.videoWidth > 0 && video.currentTime > 0.2")
        started_s, before = await page.evaluate("[video.currentTime, pixels()]")
        await page.wait_for_function("from => video.currentTime > from + 1.5", arg=started_s)
        after = await page.evaluate("pixels()")
        size = await page.evaluate("[video.videoWidth, video.videoHeight]")
        state = await page.evaluate("peer.connectionState")
        await browser.close()

    assert size == [1280, 720]
    assert state == "connected"
    assert max(before) > 60  # not black
    changed = sum(abs(a - b) > 12 for a, b in zip(before, after, strict=True))
    assert changed > 50
