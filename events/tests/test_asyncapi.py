"""docs/asyncapi.yaml describes what really goes over the websocket and the event stream, and nothing else."""

import json
from typing import Any

from django.conf import settings

import pytest
import yaml
from jsonschema import Draft202012Validator

from accounts.models import Tenant
from events import hub, stream
from events.models import TenantPosition
from events.tests.conftest import OpenSocket, body_of, post_webhook
from events.threads import in_thread
from portal.walls import tenant_scope
from tests.support.cast import TenantCast


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    text = (settings.BASE_DIR / "docs" / "asyncapi.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def check(document: dict[str, Any], frame: dict[str, Any]) -> None:
    """Raise where this frame is not what the document says of its type."""
    schema = document["components"]["schemas"][frame["type"]] | {"components": document["components"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(frame)


async def test_every_frame_of_a_socket_is_as_described(
    cast: TenantCast, open_socket: OpenSocket, document: dict[str, Any]
):
    await post_webhook(body_of("button_press", device=cast.ada_camera, request=1))
    await post_webhook(body_of("motion_detected", request=2))
    await in_thread(expire_up_to, cast.tenant, 1)
    socket = await open_socket(cast.owner, after=0)
    frames = [await socket.receive_json_from(timeout=10) for _ in range(3)]
    await socket.send_json_to({"type": "ping"})
    frames.append(await socket.receive_json_from(timeout=10))
    bad = await open_socket(cast.owner, after="nowhere")
    frames.append(await bad.receive_json_from(timeout=10))

    assert [frame["type"] for frame in frames] == ["expired", "event", "event", "pong", "error"]
    assert frames[1]["event"]["device"] is not None and frames[2]["event"]["device"] is None
    for frame in frames:
        check(document, frame)


def expire_up_to(tenant: Tenant, position: int) -> None:
    with tenant_scope(tenant.pk):
        TenantPosition.objects.filter(pk=tenant.pk).update(expired=position)


def test_notices_are_as_described(document: dict[str, Any]):
    heartbeat = stream._HEARTBEAT.rpartition("data: ")[2]
    notices = [hub.CHANGED, hub.RIGHTS, stream._COME_BACK, *stream._GOODBYES.values(), heartbeat]
    for notice in notices:
        check(document, json.loads(notice))


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, reference
            found = found[step]
