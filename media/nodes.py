"""
Relay nodes: processes of their own (`manage.py relay`) that pass live pictures on for web processes on any machine.

A camera is at one node, whoever watches it: the one that has it already, else the one that rendezvous hashing gives. The
web process says over the channel layer whom to answer, and the node answers there. A node is alive while it stamps its row
every second.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from events.broadcast import LAYER_ERRORS
from media.live import LiveRefused
from media.models import RelayNode

logger = logging.getLogger(__name__)

# Without a stamp for so long a node is taken for dead; as long as the leases of its sessions last (media.live.SIGN_OF_LIFE).
SILENT_AFTER: Final = timedelta(seconds=3)
# Staff may want to see which node died; then its row goes.
FORGET_AFTER: Final = timedelta(hours=1)
# A node says at once that it has heard; its answer may wait for Ring's.
HEARD_WITHIN_S: Final = 2.0
ANSWER_WITHIN_S: Final = 32.0
SUBSCRIBE_AGAIN_S: Final = 1.0

type Answerer = Callable[[int, str], Awaitable[str]]


class NodeSilent(Exception):
    """The node did not say that it has heard."""


# --- who is alive ---


def beat(name: str, channel: str, *, viewers: int, sessions: int, now: datetime) -> None:
    """Say that this node lives, and with how many viewers and sessions at Ring."""
    RelayNode.objects.update_or_create(
        name=name,
        defaults={"channel": channel, "seen_at": now, "viewers": viewers, "sessions": sessions},
        create_defaults={
            "channel": channel,
            "started_at": now,
            "seen_at": now,
            "viewers": viewers,
            "sessions": sessions,
        },
    )


def sign_off(name: str) -> None:
    """This node ends by its own will: it gets no new viewers."""
    RelayNode.objects.filter(name=name).delete()


def forget_dead(*, now: datetime) -> None:
    """Drop the rows of nodes that died a while ago."""
    RelayNode.objects.filter(seen_at__lt=now - FORGET_AFTER).delete()


def living(*, now: datetime) -> list[RelayNode]:
    """The nodes that are alive."""
    return list(RelayNode.objects.filter(seen_at__gte=now - SILENT_AFTER))


def choose(camera: str, among: Iterable[RelayNode]) -> RelayNode:
    """
    The node for a camera that is at none yet; `among` must not be empty.

    Rendezvous hashing: of all nodes the one whose hash with the camera is highest, so that a node which comes or goes moves
    only the cameras that are its own.
    """
    return max(among, key=lambda node: hashlib.sha256(f"{node.name} {camera}".encode()).digest())


# --- the web process asks ---


def ask(node: RelayNode, *, session_id: int, offer_sdp: str) -> str:
    """
    Let `node` answer the offer of a viewer whose row says so; return its answer.

    Blocks. Raises NodeSilent, or LiveRefused.
    """
    try:
        said: dict[str, Any] = async_to_sync(_ask)(node.channel, session_id, offer_sdp)
    except LAYER_ERRORS as error:
        logger.warning("A relay node could not be asked. node=%s kind=%s", node.name, type(error).__name__)
        raise _unavailable() from error
    if said["type"] == "relay.answer":
        return str(said["sdp"])
    raise LiveRefused(
        said["message"],
        reason=said["reason"],
        status=said["status"],
        retry_after_s=said["retry_after_s"],
    )


async def _ask(node_channel: str, session_id: int, offer_sdp: str) -> dict[str, Any]:
    layer = get_channel_layer()
    async with asyncio.timeout(HEARD_WITHIN_S):
        channel = await layer.new_channel()
        question = {"type": "relay.watch", "session": session_id, "offer": offer_sdp, "reply": channel}
        try:
            await layer.send(node_channel, question)
        except LAYER_ERRORS:
            await _close(channel)
            raise
    # A wait that is given up closes the channel.
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            await layer.receive(channel)
    except TimeoutError:
        raise NodeSilent from None
    async with asyncio.timeout(ANSWER_WITHIN_S):
        said: dict[str, Any] = await layer.receive(channel)
    await _close(channel)
    return said


async def _close(channel: str) -> None:
    """The layers know no other way to end a channel than a wait for it that is given up."""
    try:
        async with asyncio.timeout(0):
            await get_channel_layer().receive(channel)
    except LAYER_ERRORS:
        pass


def _unavailable() -> LiveRefused:
    return LiveRefused(
        "Live pictures cannot be passed on at the moment.", reason="unavailable", status=503, retry_after_s=5
    )


# --- the node answers ---


async def open_channel() -> str:
    """The channel a node is asked on, once the channel layer is there."""
    while True:
        try:
            return str(await get_channel_layer().new_channel())
        except LAYER_ERRORS as error:
            logger.warning("The channel layer is away; trying again. kind=%s", type(error).__name__)
            await asyncio.sleep(SUBSCRIBE_AGAIN_S)


async def answer_all(channel: str, answer: Answerer) -> None:
    """
    Answer what is asked on `channel` until cancelled, each question in a task of its own.

    `answer` gets the row's id and the offer, and raises LiveRefused.
    """
    async with asyncio.TaskGroup() as answering:
        while True:
            question = await get_channel_layer().receive(channel)
            answering.create_task(_answer(question, answer))


async def _answer(question: dict[str, Any], answer: Answerer) -> None:
    layer, reply = get_channel_layer(), question["reply"]
    try:
        await layer.send(reply, {"type": "relay.heard"})
        await layer.send(reply, await _said(question, answer))
    except LAYER_ERRORS as error:
        # Whoever asked gives up, and the row's lease ends the viewing.
        logger.warning("An answer could not be given. kind=%s", type(error).__name__)


async def _said(question: dict[str, Any], answer: Answerer) -> dict[str, Any]:
    try:
        return {"type": "relay.answer", "sdp": await answer(question["session"], question["offer"])}
    except LiveRefused as refusal:
        refused = refusal
    except Exception:
        # One question must not end the node, on which all the others watch.
        logger.exception("A viewer could not be answered. session=%s", question["session"])
        refused = _unavailable()
    return {
        "type": "relay.refused",
        "message": str(refused),
        "reason": refused.reason,
        "status": refused.status,
        "retry_after_s": refused.retry_after_s,
    }
