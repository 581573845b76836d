"""Ring on loopback, scripted; one linked account to sync; and devices as Ring describes them."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import LazySettings
from django.utils import timezone

import pytest

from accounts.models import RingAccount
from ring.tests.server import ScriptedServer, json_reply, running_server
from tests.support.cast import TenantCast, make_cast

DOCUMENTS = Path(__file__).parent / "documents"
LIST = "/v1/devices"
SUBSCRIPTIONS = "/v1/accounts/me/subscriptions"


def ring_list() -> dict[str, Any]:
    """Ring's list of a home: doorbell, battery camera, two-camera device, chime, contact sensor (contract 7)."""
    document: dict[str, Any] = json.loads((DOCUMENTS / "devices.json").read_text())
    return document


def only(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """The same list with these devices alone, by name; what is included stays."""
    return {**document, "data": [item for item in document["data"] if item["attributes"]["name"] in names]}


def one(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The document of one device, as its own address gives it."""
    return {**document, "data": only(document, name)["data"][0]}


def included(document: dict[str, Any], name: str, relationship: str) -> dict[str, Any]:
    """The attributes of one included resource, to be changed in place."""
    linkage = one(document, name)["data"]["relationships"][relationship]["data"]
    found: dict[str, Any] = next(
        item["attributes"]
        for item in document["included"]
        if (item["type"], item["id"]) == (linkage["type"], linkage["id"])
    )
    return found


@pytest.fixture
def ring(settings: LazySettings) -> Iterator[ScriptedServer]:
    with running_server() as server:
        settings.RING_API_URL = server.url
        settings.RING_TOKEN_URL = f"{server.url}/oauth/token"
        settings.DEBUG = True  # plain http to loopback is for development only
        yield server


@pytest.fixture
def acme(db: None) -> TenantCast:
    return make_cast("acme")


@pytest.fixture
def account(acme: TenantCast) -> RingAccount:
    """A linked account without devices, its tokens good for hours."""
    acme.ada_camera.delete()
    account = acme.ada_account
    now = timezone.now()
    account.tokens_obtained_at = now
    account.access_expires_at = now + timedelta(hours=4)
    account.save()
    return account


@pytest.fixture
def ring_lists(ring: ScriptedServer) -> Callable[..., None]:
    """Let Ring answer the next listings with these documents, in order."""

    def script(*documents: dict[str, Any]) -> None:
        ring.script("GET", LIST, *(json_reply(document) for document in documents))

    return script
