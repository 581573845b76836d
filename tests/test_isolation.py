"""
Nothing of one tenant can be reached by another, at any address.

The addresses are read from the URLconf, so a new one is walked the day it is added; one that does not say whose it is
fails here until somebody does (`NOBODYS`, `ANYBODYS`, `Rows.named`). Websockets and commands: tests/test_isolation_elsewhere.py.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.core.files.base import ContentFile
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, DataExport, Invitation, Membership, Role, User
from devices.grants import Capability
from devices.models import Device, DeviceGroup, Grant, GroupedDevice
from events.models import Delivery, Event, EventReview, PushSubscription
from media.models import Clip, ClipRule, LiveSession, Picture, Screen
from tests.support.cast import NOW, PASSWORD, TenantCast, make_cast, make_membership, make_user
from tests.support.jsonapi import MEDIA_TYPE
from tests.test_tenant_models import MODELS, WITHOUT_TENANT

pytestmark = pytest.mark.django_db

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REFUSED = {404, 405}

NOBODYS = {
    "home": "leads a person to their own tenant",
    "healthz-live": "says nothing of any tenant",
    "healthz-ready": "says nothing of any tenant",
    "service-worker": "a script, the same for everybody",
    "manifest": "the portal's name and icons",
    "metrics": "counts over the whole installation, for who has its token",
    "api:schema": "describes the API",
    "api:docs": "describes the API",
    "api:root": "names the resources",
    "api:nothing": "is a 404",
}
ANYBODYS = {
    "ring:token_exchange": "Ring calls it; a code of Ring's is the key",
    "ring:link": "a browser comes from Ring; the nonce is the key",
    "ring:home": "the tenant's public page",
    "accounts:confirm_link": "a stranger becomes a customer here; the nonce in the session is the key",
    "accounts:switch_person": "ends one's own session",
    "accounts:join": "an invited person becomes a member here; the token of the mail is the key",
    "accounts:join_as_another": "ends one's own session, of whoever came with an invitation",
    "events:snooze_from_notice": "a notification has no page; what it carried is the key",
    "media:screen": "a screen has no sign-in; the token of its link is the key",
    "accounts:accent": "a colour, for pages shown before anybody has signed in",
}
# The person's own account pages and the staff's site: they know no tenant, and have tests of their own.
ELSEWHERE = ("accounts/", "admin/")


@dataclass(frozen=True)
class Address:
    route: str
    name: str
    kwargs: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def fill(self, values: dict[str, Any]) -> str:
        return reverse(self.name, kwargs={kwarg: values[kwarg] for kwarg in self.kwargs})


def addresses() -> Iterator[Address]:
    """Every address of the installation."""

    def walk(resolver: URLResolver, route: str = "", names: tuple[str, ...] = ()) -> Iterator[Address]:
        for pattern in resolver.url_patterns:
            below = route + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern, below, (*names, pattern.namespace) if pattern.namespace else names)
            else:
                assert isinstance(pattern, URLPattern)
                kwargs = tuple(re.findall(r"<(?:\w+:)?(\w+)>", below))
                yield Address(below, ":".join((*names, pattern.name or "")), kwargs)

    return walk(get_resolver())


ALL = [address for address in addresses() if not address.route.startswith(ELSEWHERE)]
OF_TENANTS = [a for a in ALL if a.route.startswith("t/") and a.name not in ANYBODYS]
BY_ID = [a for a in OF_TENANTS if len(a.kwargs) > 1]
API_LISTS = [a for a in ALL if a.name.startswith("api:") and a.name.endswith("-list")]
API_DETAILS = [a for a in ALL if a.name.startswith("api:") and a.name.endswith("-detail")]
STAFFS = [a for a in addresses() if a.route.startswith("admin/")]


@dataclass
class World:
    """A tenant with one row of everything, all belonging to its customer Ada."""

    cast: TenantCast
    canary: str
    rows: dict[str, Model] = field(default_factory=dict)
    token: str = ""

    def __post_init__(self) -> None:
        cast, canary = self.cast, self.canary
        cast.tenant.name = f"{canary} Inc"
        cast.tenant.save()
        account, device = cast.ada_account, cast.ada_camera
        account.first_name, account.account_identifier = canary, canary
        account.save()
        device.name = f"{canary} camera"
        device.save()
        of = {"tenant": cast.tenant, "device": device}
        delivery = Delivery.objects.create(
            tenant=cast.tenant,
            received_at=NOW,
            request_id=canary,
            body=f'{{"x": "{canary}"}}'.encode(),
            verdict="recorded",
        )
        event = Event.objects.create(
            **of,
            delivery=delivery,
            ring_account=account,
            request_id=canary,
            position=1,
            event_type=f"{canary}_event",
            occurred_at=NOW,
            received_at=NOW,
        )
        test = Event.objects.create(
            **of,
            ring_account=account,
            request_id=f"{canary}-test",
            position=2,
            provenance=Event.Provenance.TEST,
            event_type=f"{canary}_test",
            occurred_at=NOW,
            received_at=NOW,
        )
        EventReview.objects.create(
            tenant=cast.tenant, event=event, membership=cast.ada, reviewed_at=NOW, batch=uuid4()
        )
        stored = ContentFile(canary.encode(), "canary.mp4")
        ready = {"state": "ready", "file": stored, "sha256": "ab"}
        clip = Clip.objects.create(
            **of, **ready, event=event, start=NOW, duration_ms=1000, size_bytes=len(canary), poster=stored
        )
        picture = Picture.objects.create(**of, **ready, event=event, asked_at=NOW, taken_at=NOW)
        session = LiveSession.objects.create(**of, viewer=cast.ada.user, opened_at=NOW, cap_s=30)
        screen = Screen.objects.create(
            tenant=cast.tenant,
            membership=cast.ada,
            name=canary,
            sha256=Screen.digest(canary),
            created_at=NOW,
            expires_at=timezone.now() + timedelta(days=7),
        )
        screen.devices.add(device)
        rule = ClipRule.objects.create(
            tenant=cast.tenant, name=canary, kinds=["doorbell"], all_devices=False, created_at=NOW
        )
        rule.devices.add(device)
        invitation = Invitation.objects.create(
            tenant=cast.tenant,
            email=f"{canary}@new.example",
            role="operator",
            sha256=f"{canary}",
            expires_at=timezone.now() + timedelta(days=7),
        )
        group = DeviceGroup.objects.create(tenant=cast.tenant, name=f"{canary} house")
        GroupedDevice.objects.create(tenant=cast.tenant, group=group, device=device)
        grant = Grant.objects.create(tenant=cast.tenant, invitation=invitation, device=device, live=True)
        export = DataExport.objects.create(
            tenant=cast.tenant,
            user=cast.ada.user,
            kind="person",
            state="ready",
            file=stored,
            sha256="ab",
            size_bytes=len(canary),
            expires_at=timezone.now() + timedelta(days=1),
        )
        browser = PushSubscription.objects.create(
            tenant=cast.tenant,
            membership=cast.ada,
            endpoint_digest=canary,
            subscription=canary,
            name=canary,
            created_at=timezone.now(),
        )
        _, self.token = ApiToken.issue(tenant=cast.tenant, name="program", scopes=["read", "write"])
        self.rows = {
            "account": account,
            "device": device,
            "event": event,
            "test": test,
            "delivery": delivery,
            "clip": clip,
            "picture": picture,
            "session": session,
            "screen": screen,
            "rule": rule,
            "member": cast.ada,
            "invitation": invitation,
            "group": group,
            "grant": grant,
            "export": export,
            "browser": browser,
        }

    def named(self, kwarg: str) -> Any:
        """What stands for `kwarg` in an address of this tenant."""
        if kwarg == "tenant":
            return self.cast.tenant.slug
        assert kwarg in self.rows, f"Tell World which row <{kwarg}> of an address names."
        return self.rows[kwarg].public_id  # type: ignore[attr-defined]  # every TenantOwned has one

    def values(self, address: Address) -> dict[str, Any]:
        return {kwarg: self.named(kwarg) for kwarg in address.kwargs}

    def contents(self) -> dict[str, list[Any]]:
        """Every row of the tenant, value for value."""
        found: dict[str, list[Any]] = {}
        for model in MODELS:
            if model in WITHOUT_TENANT:
                continue
            rows = model._default_manager.filter(tenant=self.cast.tenant).order_by("pk")
            found[model._meta.label] = list(rows.values())
        return found


@pytest.fixture
def own() -> World:
    return World(make_cast("acme"), "Ownish")


@pytest.fixture
def theirs(own: World) -> World:
    return World(make_cast("victim"), "Canaria")


def signed_in(membership: Membership) -> Client:
    client = Client()
    client.force_login(membership.user)
    return client


def people(world: World) -> dict[str, Client]:
    """Everybody who may talk to the portal and has no part in another tenant than `world`, or in none."""
    cast = world.cast
    guest = make_membership(cast.tenant, "guest@nowhere.example", Role.GUEST)
    Grant.objects.create(
        tenant=cast.tenant,
        membership=guest,
        device=cast.ada_camera,
        **dict.fromkeys(Capability.values, True),
    )
    outsider, staff = Client(), Client()
    outsider.force_login(make_user("outsider@nowhere.example"))
    staff.force_login(User.objects.create_superuser("staff@portal.example", PASSWORD))
    return {
        "owner": signed_in(cast.owner),
        "admin": signed_in(make_membership(cast.tenant, "admin@nowhere.example", Role.ADMIN)),
        "operator": signed_in(cast.operator),
        "customer": signed_in(cast.ada),
        "guest": signed_in(guest),
        "outsider": outsider,
        "staff": staff,  # their place is the admin, behind a second factor, which this session was not proved with
        "program": Client(headers={"Authorization": f"Bearer {world.token}"}),
    }


def ask(client: Client, method: str, path: str) -> Any:
    body: Any = b"v=0\r\n" if path.endswith("whep") else b""
    content_type = "application/sdp" if path.endswith("whep") else "application/x-www-form-urlencoded"
    return client.generic(method, path, body, content_type)


def body_of(response: Any) -> str:
    return b"".join(response).decode("utf-8", "replace")


def test_every_address_says_whose_it_is():
    known = {a.name for a in (*OF_TENANTS, *API_LISTS, *API_DETAILS)} | NOBODYS.keys() | ANYBODYS.keys()
    unknown = {a.name for a in ALL} - known

    assert not unknown, "Say in tests/test_isolation.py whose these are."
    assert len(OF_TENANTS) > 25 and len(API_DETAILS) == len(API_LISTS) == 6
    for address in OF_TENANTS:
        assert address.kwargs[0] == "tenant"


@pytest.mark.parametrize("address", OF_TENANTS, ids=str)
def test_an_address_of_another_tenant_is_not_there(own: World, theirs: World, address: Address):
    before = theirs.contents()
    path = address.fill(theirs.values(address))

    for who, client in people(own).items():
        statuses = {}
        for method in METHODS:
            response = ask(client, method, path)
            statuses[method] = response.status_code
            assert theirs.canary not in body_of(response)
        # A page knows no tokens: a program is nobody there, and sent to the sign-in page.
        allowed = REFUSED | {302} if who == "program" else REFUSED
        assert set(statuses.values()) <= allowed, (who, statuses)
        assert set(statuses.values()) != {405}, (who, statuses)

    assert theirs.contents() == before


@pytest.mark.parametrize("address", BY_ID, ids=str)
def test_an_id_of_another_tenant_is_not_there_under_ones_own(own: World, theirs: World, address: Address):
    before = theirs.contents()
    ids = address.kwargs[1:]
    worlds = [mixed for mixed in itertools.product((own, theirs), repeat=len(ids)) if theirs in mixed]

    everybody = people(own)
    for mixed in worlds:
        values = {"tenant": own.named("tenant")} | {
            kwarg: world.named(kwarg) for kwarg, world in zip(ids, mixed, strict=True)
        }
        path = address.fill(values)
        for who, client in everybody.items():
            for method in METHODS:
                response = ask(client, method, path)
                allowed = REFUSED | {302} if who == "program" else REFUSED
                assert response.status_code in allowed, (who, method, path, response.status_code)
                assert theirs.canary not in body_of(response)

    assert theirs.contents() == before


@pytest.mark.parametrize("address", BY_ID, ids=str)
def test_a_customer_finds_nothing_of_another_customer(own: World, address: Address):
    before = own.contents()
    path = address.fill(own.values(address))
    ben = signed_in(own.cast.ben)

    for method in METHODS:
        response = ask(ben, method, path)
        assert response.status_code in REFUSED, (method, response.status_code)
        assert own.canary not in body_of(response).replace(f"{own.canary} Inc", "")

    assert own.contents() == before


@pytest.mark.parametrize("address", OF_TENANTS, ids=str)
def test_nobody_is_asked_to_sign_in_whatever_there_is(own: World, address: Address):
    before = own.contents()
    path = address.fill(own.values(address))
    login = reverse("account_login")

    for method in METHODS:
        response = ask(Client(), method, path)
        assert response.status_code in {302, 401, 404, 405}, (method, response.status_code)
        if response.status_code == 302:
            assert response["Location"].startswith(login)
        assert own.canary not in body_of(response)

    assert own.contents() == before


@pytest.mark.parametrize("name", sorted(ANYBODYS))
def test_what_anybody_may_ask_tells_nothing_of_the_tenants_people(own: World, theirs: World, name: str):
    before = theirs.contents()
    path = reverse(name, kwargs={"tenant": theirs.cast.tenant.slug})

    for client in people(own).values():
        for method in METHODS:
            text = body_of(ask(client, method, path)).replace(f"{theirs.canary} Inc", "")
            assert theirs.canary not in text
            if name in {"accounts:switch_person", "accounts:join_as_another"}:
                break  # it signs the person out

    # Refusals are written into the tenant's trail, for its admins to see: who was refused goes by a random reference.
    trail: dict[str, list[Any]] = {"accounts.AuditEntry": [], "accounts.AuditPerson": []}
    assert theirs.contents() | trail == before | trail


def test_the_owner_does_find_their_own_rows(own: World):
    """The walk above would pass on a portal where nothing works."""
    owner = signed_in(own.cast.owner)
    found = [
        address.name
        for address in OF_TENANTS
        if ask(owner, "GET", address.fill(own.values(address))).status_code in {200, 204, 302, 405}
    ]

    # A live session is its own viewer's, and a Ring account's own pages are its person's.
    missing = {address.name for address in OF_TENANTS} - set(found)
    assert missing == {
        "media:whep_more",
        "media:whep_session",
        *SCREENS_OWN,
        "accounts:linked",
        "accounts:unlink",
        "accounts:download_export",  # a person's own
    }


# --- the API -----------------------------------------------------------------------------------------------------


def row_of(world: World, address: Address) -> Any:
    kind = address.name.removeprefix("api:").removesuffix("-detail")
    named = {"live-sessions": "session", "test-events": "test"}
    return world.rows[named.get(kind, kind.removesuffix("s"))]


@pytest.mark.parametrize("address", API_DETAILS, ids=str)
def test_a_resource_of_another_tenant_is_not_there(own: World, theirs: World, address: Address):
    before = theirs.contents()
    path = address.fill({"public_id": row_of(theirs, address).public_id})

    for who, client in people(own).items():
        for method in METHODS:
            response = client.generic(method, path, b"", MEDIA_TYPE)
            assert response.status_code in REFUSED, (who, method, response.status_code)
            assert theirs.canary not in body_of(response)
    assert theirs.contents() == before
    assert Client().get(path).status_code == 401


@pytest.mark.parametrize("address", API_DETAILS, ids=str)
def test_a_resource_of_another_customer_is_not_there(own: World, address: Address):
    ben, ada = signed_in(own.cast.ben), signed_in(own.cast.ada)
    path = address.fill({"public_id": row_of(own, address).public_id})

    # A test of ours is the staff's alone, whatever device it names.
    assert ada.get(path).status_code == (404 if address.name == "api:test-events-detail" else 200)
    assert ben.get(path).status_code == 404


@pytest.mark.parametrize("query", ["", "?filter[tenant]=victim"])
@pytest.mark.parametrize("address", API_LISTS, ids=str)
def test_a_list_holds_nothing_of_another_tenant(own: World, theirs: World, address: Address, query: str):
    for who, client in people(own).items():
        response = client.get(address.fill({}) + query)
        text = body_of(response)
        assert response.status_code == 200, who
        assert theirs.canary not in text
        assert not [row for row in theirs.rows.values() if str(row.public_id) in text]  # type: ignore[attr-defined]
        if who == "program" and not query:
            assert response.json()["data"], "the walk sees something of its own"
    assert Client().get(address.fill({})).status_code == 401


def test_a_filter_by_another_tenants_id_finds_nothing(own: World, theirs: World):
    program = people(own)["program"]

    for address in API_LISTS:
        for name, row in theirs.rows.items():
            response = program.get(address.fill({}), {f"filter[{name}]": str(row.public_id)})  # type: ignore[attr-defined]
            assert response.status_code == 400 or response.json()["data"] == []


def test_a_clip_of_another_tenants_camera_is_not_to_be_had(own: World, theirs: World):
    before = theirs.contents()
    device = theirs.rows["device"]
    assert isinstance(device, Device)
    document = {
        "data": {
            "type": "clips",
            "attributes": {"start": NOW.isoformat(), "duration_ms": 1000},
            "relationships": {"device": {"data": {"type": "devices", "id": str(device.public_id)}}},
        }
    }

    for client in people(own).values():
        assert client.post("/api/v1/clips", document, content_type=MEDIA_TYPE).status_code == 404
    assert theirs.contents() == before


# --- the staff's site --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", STAFFS, ids=lambda address: address.route)
def test_the_staffs_site_admits_no_member_of_any_tenant(own: World, address: Address):
    path = "/" + re.sub(r"<(?:\w+:)?\w+>", "1", address.route).replace("^", "").replace("(?P1.*)$", "x")

    for client in people(own).values():
        response = client.get(path)
        assert response.status_code in {302, 403, 404}, path
        assert own.canary not in body_of(response)


# --- every role, under its own tenant --------------------------------------------------------------------------------

EVERY = frozenset(Capability)
# Which capability shows a row; where an address asks for another one, it says so here.
SHOWN_BY = {
    "device": None,
    "event": Capability.EVENTS,
    "picture": Capability.EVENTS,
    "clip": Capability.CLIPS,
}
ALSO_NEEDS = {
    "media:watch": {Capability.LIVE},
    "media:whep": {Capability.LIVE},
    "media:request_device_clip": {Capability.CLIPS},
    "media:request_event_clip": {Capability.CLIPS},
    "media:delete_clip": {Capability.MANAGE},
    "devices:share": {Capability.MANAGE},
}
# Whoever is signed in: it is the screen's own, by its link (media/tests/test_screens.py).
SCREENS_OWN = {"media:screen_whep", "media:screen_session", "media:screen_more"}
OF_DEVICES = [
    a for a in BY_ID if a.kwargs[1] in SHOWN_BY and len(a.kwargs) == 2 and a.name not in SCREENS_OWN
]
API_NEEDS = {
    "devices": None,
    "events": Capability.EVENTS,
    "clips": Capability.CLIPS,
    "live-sessions": Capability.MANAGE,
}
HELD = {
    "owner": EVERY,
    "admin": EVERY,
    "operator": EVERY,
    "limited operator": frozenset(),
    "limited operator with a group": frozenset({Capability.LIVE, Capability.EVENTS}),
    "the customer whose it is": EVERY,
    "another customer": frozenset(),
    "another customer with a grant": frozenset({Capability.CLIPS}),
    **{f"guest with {one.value}": frozenset({one}) for one in Capability if one != Capability.EXPORT},
    "guest with everything": EVERY,
    "guest whose time is up": frozenset(),
    "guest whose grant was ended": frozenset(),
    "guest with a grant on something else": frozenset(),
    "outsider": frozenset(),
}


def play(world: World, part: str) -> Client:
    """Somebody who plays this part, signed in; the part's grants are given."""
    cast, device = world.cast, world.cast.ada_camera
    if part in ("owner", "operator"):
        return signed_in(getattr(cast, part))
    if part == "the customer whose it is":
        return signed_in(cast.ada)
    if part == "outsider":
        client = Client()
        client.force_login(make_user("outsider@nowhere.example"))
        return client
    if part.startswith("another customer"):
        member = cast.ben
    else:
        role = Role(part.split()[0].removeprefix("limited") or "operator")
        member = make_membership(cast.tenant, "player@acme.example", role)
        member.is_limited = part.startswith("limited")
        member.save()
    of: dict[str, Any] = {"tenant": cast.tenant, "membership": member}
    group = world.rows["group"]
    if part == "guest whose time is up":
        Grant.objects.create(
            **of, device=device, **dict.fromkeys(Capability.values, True), until=timezone.now()
        )
    elif part == "guest whose grant was ended":
        Grant.objects.create(
            **of, device=device, **dict.fromkeys(Capability.values, True), ended_at=timezone.now()
        )
    elif part == "guest with a grant on something else":
        Grant.objects.create(**of, device=cast.ben_camera, **dict.fromkeys(Capability.values, True))
    elif HELD[part] and not member.sees_whole_tenant:
        target = {"group": group} if "group" in part else {"device": device}
        Grant.objects.create(**of, **target, **{held.value: True for held in HELD[part]})
    return signed_in(member)


@pytest.mark.parametrize("part", HELD)
def test_each_part_finds_what_it_holds_and_nothing_else(own: World, part: str):
    client, held = play(own, part), HELD[part]
    canaries = [str(own.rows[kind].public_id) for kind in SHOWN_BY]  # type: ignore[attr-defined]

    for address in OF_DEVICES:
        path = address.fill(own.values(address))
        shown_by = SHOWN_BY[address.kwargs[1]]
        needs = ({shown_by} if shown_by else set()) | ALSO_NEEDS.get(address.name, set())
        # Operators delete clips, and give nobody access.
        is_refused_all_the_same = part == "operator" and address.name == "devices:share"
        for method in ("GET", "HEAD", "OPTIONS"):
            response = ask(client, method, path)
            status = response.status_code
            if not held:
                assert status in REFUSED, (address.name, method, status)
                assert not [canary for canary in canaries if canary in body_of(response)]
            elif not needs <= held or is_refused_all_the_same:
                assert status in {403, 405}, (address.name, method, status)
            else:
                assert status in {200, 204, 302, 405}, (address.name, method, status)


@pytest.mark.parametrize("part", HELD)
def test_each_part_gets_from_the_api_what_it_holds_and_nothing_else(own: World, part: str):
    client, held = play(own, part), HELD[part]

    for kind, needs in API_NEEDS.items():
        row = own.rows[{"live-sessions": "session"}.get(kind, kind.removesuffix("s"))]
        public_id = str(row.public_id)  # type: ignore[attr-defined]
        may = bool(held) if needs is None else needs in held
        listed = [found["id"] for found in client.get(f"/api/v1/{kind}").json()["data"]]
        assert (public_id in listed) == may, kind
        status = client.get(f"/api/v1/{kind}/{public_id}").status_code
        assert status == (200 if may else 403 if held else 404), kind


@pytest.mark.parametrize("part", HELD)
def test_each_part_sees_on_its_lists_what_it_holds_and_nothing_else(own: World, part: str):
    """The lists and walls of a tenant, for everybody in it: no id and no name of what is not theirs."""
    client, held = play(own, part), HELD[part]
    if part == "outsider":
        return  # finds no page at all: above
    for name, needs in {
        "devices:list": None,
        "events:dashboard": None,
        "events:list": Capability.EVENTS,
        "events:rows": Capability.EVENTS,
        "media:wall": Capability.LIVE,
        "media:clips": Capability.CLIPS,
    }.items():
        text = client.get(reverse(name, args=[own.cast.tenant.slug])).content.decode()
        text = text.replace(f"{own.canary} Inc", "").replace(f"{own.canary}’s home", "")
        may = bool(held) if needs is None else needs in held
        assert (f"{own.canary} camera" in text) == may, name
        if Capability.EVENTS not in held:
            assert str(own.rows["event"].public_id) not in text  # type: ignore[attr-defined]
            assert str(own.rows["picture"].public_id) not in text  # type: ignore[attr-defined]
        if Capability.CLIPS not in held:
            assert str(own.rows["clip"].public_id) not in text  # type: ignore[attr-defined]
