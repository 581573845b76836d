"""
The other ways in: websockets, the event stream and management commands. Nothing of one tenant is to be had by them either.

Both are walked from what there is: the routes of `events.routing`, the commands in our apps' folders. A new one that does
not say here how it is to be asked fails. Pages, the API and the staff's site: tests/test_isolation.py.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path

from django.conf import settings as django_settings
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.test import Client

import pytest
from channels.testing import ApplicationCommunicator, WebsocketCommunicator

import events.stream
from accounts.models import ApiToken
from devices.grants import Capability
from devices.models import Device
from events.routing import websocket_urlpatterns
from events.tests.conftest import session_cookie
from events.threads import in_thread
from portal.asgi import application
from tests.support.cast import NOW, make_cast, make_user
from tests.test_isolation import HELD, World, play

OURS = ("accounts", "devices", "events", "media", "onboarding", "portal")

# --- websockets --------------------------------------------------------------------------------------------------

ROUTES = [str(route.pattern) for route in websocket_urlpatterns if str(route.pattern)]
ADDRESSES = [re.sub(r"\(\?P<tenant>[^)]*\)", "{tenant}", route).strip("^$") for route in ROUTES]


async def open_socket(path: str, headers: dict[str, str]) -> tuple[bool, WebsocketCommunicator]:
    given = {"origin": "http://testserver", **headers}
    socket = WebsocketCommunicator(
        application, path, headers=[(name.encode(), value.encode()) for name, value in given.items()]
    )
    accepted, _ = await socket.connect(timeout=10)
    return accepted, socket


def cookie_of(client: Client) -> dict[str, str]:
    return {"cookie": f"sessionid={client.cookies['sessionid'].value}"}


def test_every_websocket_names_its_tenant_and_nothing_else():
    """One that took an id too would need a walk with another tenant's ids, as the pages have it."""
    assert ADDRESSES == ["ws/t/{tenant}/events/"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ADDRESSES)
async def test_nobody_opens_another_tenants_websocket(address: str):
    own = await in_thread(lambda: World(make_cast("acme"), "Ownish"))
    theirs = await in_thread(lambda: World(make_cast("victim"), "Canaria"))

    for who, headers in (await in_thread(everybody, own, theirs)).items():
        accepted, _ = await open_socket("/" + address.format(tenant="victim") + "?after=0", headers)
        assert not accepted, who


def everybody(own: World, theirs: World) -> dict[str, dict[str, str]]:
    parts: dict[str, dict[str, str]] = {
        "nobody": {},
        "program": {"authorization": f"Bearer {own.token}"},
        "program of theirs, revoked": {"authorization": f"Bearer {revoked(theirs)}"},
    }
    stranger = Client()
    stranger.force_login(make_user("outsider@nowhere.example"))
    parts["outsider"] = cookie_of(stranger)
    for member in own.cast.everyone:
        parts[str(member.role) + str(member.pk)] = {"cookie": session_cookie(member)}
    return parts


def revoked(world: World) -> str:
    token, secret = ApiToken.issue(tenant=world.cast.tenant, name="revoked", scopes=["read"])
    token.revoked_at = NOW
    token.save()
    return secret


def heard_by(part: str, world: World) -> list[str]:
    """The ids of the events this part may hear of, in order: the company's team also of a test of the portal's own."""
    if Capability.EVENTS not in HELD[part]:
        return []
    kinds = ("event", "test") if part in ("owner", "admin", "operator") else ("event",)
    return [str(world.rows[kind].public_id) for kind in kinds]  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", HELD)
async def test_each_part_hears_on_its_own_tenants_websocket_what_it_holds_and_nothing_else(part: str):
    def arrange() -> tuple[dict[str, str], list[str]]:
        world = World(make_cast("acme"), "Ownish")
        return cookie_of(play(world, part)), heard_by(part, world)

    headers, theirs = await in_thread(arrange)
    accepted, socket = await open_socket("/ws/t/acme/events/?after=0", headers)
    assert accepted == (part != "outsider")
    if not accepted:
        return
    # What there is comes first, the answer to a ping after it.
    await socket.send_json_to({"type": "ping"})
    heard = []
    while (frame := await socket.receive_json_from(timeout=10))["type"] != "pong":
        heard.append(frame["event"]["id"])
    assert heard == theirs
    await socket.disconnect(timeout=10)


# --- the event stream ---------------------------------------------------------------------------------------------


async def open_stream(tenant: str, headers: dict[str, str]) -> tuple[int, ApplicationCommunicator]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/sse/t/{tenant}/events/",
        "query_string": b"after=0",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    stream = ApplicationCommunicator(application, scope)
    await stream.send_input({"type": "http.request"})
    start = await stream.receive_output(timeout=10)
    return start["status"], stream


@pytest.mark.django_db(transaction=True)
async def test_nobody_opens_another_tenants_stream():
    own = await in_thread(lambda: World(make_cast("acme"), "Ownish"))
    theirs = await in_thread(lambda: World(make_cast("victim"), "Canaria"))
    for who, headers in (await in_thread(everybody, own, theirs)).items():
        status, stream = await open_stream("victim", headers)
        answer = await stream.receive_output(timeout=10)
        assert status in (401, 404) and b"victim" not in answer["body"].lower(), who


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", HELD)
async def test_each_part_hears_on_its_own_tenants_stream_what_it_holds_and_nothing_else(
    part: str, monkeypatch: pytest.MonkeyPatch
):
    def arrange() -> tuple[dict[str, str], list[str]]:
        world = World(make_cast("acme"), "Ownish")
        return cookie_of(play(world, part)), heard_by(part, world)

    monkeypatch.setattr(events.stream, "HEARTBEAT_EVERY_S", 0)
    headers, theirs = await in_thread(arrange)
    status, stream = await open_stream("acme", headers)
    assert status == (404 if part == "outsider" else 200)
    if part == "outsider":
        return
    # What there is comes first, heartbeats after it.
    heard = ""
    while "heartbeat" not in heard:
        heard += (await stream.receive_output(timeout=10))["body"].decode()
    assert re.findall(r'"event":\{"id":"([^"]+)"', heard) == theirs
    await stream.send_input({"type": "http.disconnect"})
    await stream.wait()


# --- management commands -------------------------------------------------------------------------------------------

COMMANDS = sorted(name for name, app in get_commands().items() if app in OURS)

Arguments = Callable[[World], list[str]]
# How each is run for one tenant. None: it knows no tenant, for the reason given.
FOR_A_TENANT: dict[str, Arguments | None] = {
    "add_member": lambda world: [world.cast.tenant.slug, "another@new.example", "--role", "operator"],
    "create_api_token": lambda world: [world.cast.tenant.slug, "--name", "another", "--scope", "read"],
    "create_tenant": lambda world: [world.cast.tenant.slug, "--name", "Renamed", "--client-id", "renamed"],
    "doctor": lambda world: [world.cast.tenant.slug],
    "send_test_event": lambda world: [world.cast.tenant.slug, "--wait", "0"],
    "verify_audit": lambda world: [world.cast.tenant.slug],
    "ensure_staff": None,  # makes one of the portal's own staff
    "migrate": None,  # the tables of all
    "relay": None,  # passes on what rows of each tenant say, each in its own tenant's scope
    "rotate_keys": None,  # one keyring for the secrets of all
    "worker": None,  # runs whatever waits, each in its own tenant's scope
}
# Options that name a row: what another tenant's row is to be refused with.
NAMES_A_ROW = {("send_test_event", "device")}
NAMES_NO_ROW = {
    "tenant", "slug", "email", "role", "name", "scope", "client_id", "accent", "strict", "json", "type", "wait",
    "since", "reseal", "check", "queues", "no_schedule",
}  # fmt: skip
DJANGOS = {
    "help", "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks",
}  # fmt: skip


def test_every_command_says_how_it_is_run_for_a_tenant():
    assert set(COMMANDS) == FOR_A_TENANT.keys()
    for name in set(COMMANDS) - {"migrate"}:
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        options = {action.dest for action in parser._actions} - DJANGOS
        naming = {option for command, option in NAMES_A_ROW if command == name}
        assert options <= naming | NAMES_NO_ROW, f"{name}: does one of them name a tenant's row?"


@pytest.fixture
def _ring_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RING_CLIENT_SECRET", "some-secret")
    monkeypatch.setenv("RING_SIGNING_KEY", "some-key")


def run(name: str, *arguments: str) -> str:
    told = io.StringIO()
    try:
        call_command(name, *arguments, stdout=told, stderr=told)
    except (CommandError, SystemExit) as error:
        told.write(str(error))
    return told.getvalue()


@pytest.mark.django_db
@pytest.mark.usefixtures("_ring_secrets")
@pytest.mark.parametrize("name", [name for name, how in FOR_A_TENANT.items() if how is not None])
def test_a_command_for_one_tenant_neither_shows_nor_changes_another(name: str):
    own, theirs = World(make_cast("acme"), "Ownish"), World(make_cast("victim"), "Canaria")
    arguments = FOR_A_TENANT[name]
    assert arguments is not None
    before = theirs.contents()

    told = run(name, *arguments(own))

    assert told
    assert theirs.canary not in told and "victim" not in told
    assert theirs.contents() == before


@pytest.mark.django_db
@pytest.mark.parametrize("by", ["public_id", "name"])
def test_a_test_event_is_not_sent_for_another_tenants_device(by: str):
    make_cast("acme")
    theirs = World(make_cast("victim"), "Canaria")
    device = theirs.rows["device"]
    assert isinstance(device, Device)
    before = theirs.contents()

    with pytest.raises(CommandError, match="device"):
        call_command("send_test_event", "acme", "--device", str(getattr(device, by)))

    assert theirs.contents() == before


def test_the_commands_of_every_app_were_found():
    folders = Path(django_settings.BASE_DIR).glob("*/management/commands/*.py")
    assert {path.stem for path in folders if path.stem != "__init__"} == set(COMMANDS)
