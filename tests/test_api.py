"""The JSON:API as a program sees it: documents, lists, includes, errors, who may do what."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.management import call_command
from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import ApiToken, AuditEntry, Membership, RingAccount, Role
from devices.models import Device
from events.models import Event
from media.models import Clip, LiveSession
from tests.support.cast import NOW, TenantCast, make_cast, make_membership, make_tenant
from tests.support.jsonapi import MEDIA_TYPE, document_of

pytestmark = pytest.mark.django_db

RESOURCES = ("accounts", "devices", "events", "clips", "live-sessions")


class Program:
    """Somebody who talks to the API: with a token, or with a person's session."""

    def __init__(self, *, token: str = "", person: Membership | None = None, csrf: bool = False) -> None:
        self.client = Client(enforce_csrf_checks=csrf)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        if person is not None:
            self.client.force_login(person.user)

    def get(self, path: str, /, headers: dict[str, str] | None = None, **query: Any) -> Any:
        parameters = {
            name.replace("__", "[") + ("]" if "__" in name else ""): value for name, value in query.items()
        }
        return self.client.get(f"/api/v1/{path}", parameters, headers={**self.headers, **(headers or {})})

    def list(self, path: str, /, **query: Any) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = document_of(self.get(path, **query))["data"]
        return data

    def post(self, path: str, body: Any, content_type: str = MEDIA_TYPE) -> Any:
        return self.client.post(f"/api/v1/{path}", body, content_type=content_type, headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1/{path}", headers=self.headers)


@pytest.fixture
def acme() -> TenantCast:
    return make_cast("acme")


@pytest.fixture
def make_program(acme: TenantCast) -> Callable[..., Program]:
    def make(*scopes: str, tenant: Any = None) -> Program:
        _, token = ApiToken.issue(tenant=tenant or acme.tenant, name="test", scopes=list(scopes))
        return Program(token=token)

    return make


@pytest.fixture
def program(make_program: Callable[..., Program]) -> Program:
    return make_program("read", "write")


def make_event(device: Device, position: int, **fields: Any) -> Event:
    event: Event = Event.objects.create(
        tenant=device.tenant,
        device=device,
        ring_account=device.ring_account,
        request_id=f"r{position}",
        position=position,
        occurred_at=NOW,
        received_at=NOW,
        **{"event_type": "motion_detected", **fields},
    )
    return event


def make_clip(device: Device, **fields: Any) -> Clip:
    clip: Clip = Clip.objects.create(
        **{"tenant": device.tenant, "device": device, "start": NOW, "duration_ms": 30_000, **fields}
    )
    return clip


def make_session(device: Device, **fields: Any) -> LiveSession:
    session: LiveSession = LiveSession.objects.create(
        tenant=device.tenant,
        device=device,
        opened_at=NOW,
        cap_s=30,
        upstream_url="https://canary.example/s",
        **fields,
    )
    return session


@pytest.fixture
def full(acme: TenantCast) -> TenantCast:
    event = make_event(acme.ada_camera, 1)
    make_clip(acme.ada_camera, event=event)
    make_session(acme.ada_camera)
    return acme


# --- documents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESOURCES)
def test_every_list_and_every_resource_is_a_document_with_public_ids(
    full: TenantCast, program: Program, name: str
):
    [first, *_] = program.list(name)

    assert first["type"] == name
    answer = program.get(f"{name}/{first['id']}")
    assert answer["Cache-Control"] == "private, no-store"
    alone = document_of(answer)["data"]
    assert alone == first
    assert first["links"]["self"] == f"http://testserver/api/v1/{name}/{first['id']}"


def test_an_event_tells_what_happened_and_to_which_device(full: TenantCast, program: Program):
    [event] = program.list("events")

    assert event["attributes"] == {
        "event_type": "motion_detected",
        "sub_type": "",
        "title": "Motion",
        "occurred_at": "2026-11-22T12:00:00Z",
        "received_at": "2026-11-22T12:00:00Z",
        "position": 1,
        "component_ids": [],
        "is_test": False,
        "request_id": "r1",
    }
    device = event["relationships"]["device"]
    assert device["data"] == {"type": "devices", "id": str(full.ada_camera.public_id)}
    assert (
        document_of(program.client.get(device["links"]["related"], headers=program.headers))["data"]["id"]
        == (device["data"]["id"])
    )


def test_an_event_nobody_could_attach_yet_has_empty_relationships(full: TenantCast, program: Program):
    Event.objects.update(device=None, ring_account=None)

    [event] = program.list("events", include="device,account")

    assert event["relationships"]["device"]["data"] is None


def test_included_resources_come_once_and_linked(full: TenantCast, program: Program):
    make_event(full.ada_camera, 2)

    document = document_of(program.get("events", include="device.account"))

    assert sorted(item["type"] for item in document["included"]) == ["accounts", "devices"]


def test_sparse_fieldsets_leave_out_the_rest(full: TenantCast, program: Program):
    parameters = {"fields[events]": "position,device", "fields[devices]": "name", "include": "device"}
    response = program.client.get("/api/v1/events", parameters, headers=program.headers)

    document = document_of(response)
    [event] = document["data"]
    assert event["attributes"] == {"position": 1}
    assert list(event["relationships"]) == ["device"]
    assert document["included"][0]["attributes"] == {"name": "Front Door"}


def test_no_answer_holds_a_secret_or_an_address(full: TenantCast, program: Program):
    RingAccount.objects.filter(pk=full.ada_account.pk).update(account_identifier="a***@acme.example")
    account = RingAccount.objects.get(pk=full.ada_account.pk)
    account.email = "ada.canary@ring.example"
    account.claim_nonce = "canary-nonce"
    account.save()

    everything = "".join(
        program.get(name, include=include).content.decode()
        for name, include in [
            ("accounts", ""),
            ("devices", "account"),
            ("events", "device.account"),
            ("clips", "event,device"),
            ("live-sessions", "device"),
        ]
    )

    for secret in ("access-ava1", "refresh-ava1", "canary", "ava1.ring", 'sha256": "ppt_', "v1."):
        assert secret not in everything
    assert "a***@acme.example" in everything


# --- lists -------------------------------------------------------------------------------------------------------


def test_pages_are_numbered_and_linked(acme: TenantCast, program: Program):
    for number in range(5):
        make_clip(acme.ada_camera, start=NOW - timedelta(minutes=number))

    first = document_of(program.get("clips", page__size=2))

    assert first["meta"]["pagination"] == {"page": 1, "pages": 3, "count": 5}
    assert first["links"]["prev"] is None
    seen = [item["id"] for item in first["data"]]
    following = first["links"]["next"]
    while following:
        document = document_of(program.client.get(following, headers=program.headers))
        seen += [item["id"] for item in document["data"]]
        following = document["links"]["next"]
    assert len(seen) == len(set(seen)) == 5


def test_walking_through_events_neither_repeats_nor_skips_one_while_more_arrive(
    acme: TenantCast, program: Program
):
    for position in range(1, 8):
        make_event(acme.ada_camera, position)
    document = document_of(program.get("events", page__size=3))
    seen = [item["attributes"]["position"] for item in document["data"]]
    arriving = 8

    while document["links"]["next"]:
        make_event(acme.ada_camera, arriving)
        arriving += 1
        document = document_of(program.client.get(document["links"]["next"], headers=program.headers))
        seen += [item["attributes"]["position"] for item in document["data"]]

    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_events_after_a_position_come_oldest_first_and_say_where_to_go_on(acme: TenantCast, program: Program):
    for position in range(1, 6):
        make_event(acme.ada_camera, position)

    document = document_of(program.get("events", filter__after=1, page__size=2))
    assert [item["attributes"]["position"] for item in document["data"]] == [2, 3]
    assert parse_qs(urlsplit(document["links"]["next"]).query)["filter[after]"] == ["3"]

    document = document_of(program.client.get(document["links"]["next"], headers=program.headers))
    assert [item["attributes"]["position"] for item in document["data"]] == [4, 5]
    assert document["links"]["next"] is None
    assert document["meta"]["position"] == 5

    assert document_of(program.get("events", filter__after=5))["meta"]["position"] == 5


def test_events_are_filtered_by_device_and_type(acme: TenantCast, program: Program):
    make_event(acme.ada_camera, 1)
    make_event(acme.ben_camera, 2, event_type="button_press")

    def positions(**query: Any) -> list[int]:
        return [item["attributes"]["position"] for item in program.list("events", **query)]

    assert positions(filter__device=acme.ada_camera.public_id) == [1]
    assert positions(filter__device=f"{acme.ada_camera.public_id},{acme.ben_camera.public_id}") == [2, 1]
    assert positions(filter__event_type="button_press") == [2]
    assert positions(filter__event_type="button_press,motion_detected", sort="position") == [1, 2]
    assert positions(filter__account=acme.ben_account.public_id) == [2]
    assert positions(filter__device=uuid.uuid4()) == []


def test_devices_that_left_are_listed_only_when_asked_for(acme: TenantCast, program: Program):
    Device.objects.filter(pk=acme.ben_camera.pk).update(removed_at=timezone.now() + timedelta(days=365))
    Device.objects.filter(pk=acme.ada_camera.pk).update(online=False)

    def names(**query: Any) -> list[str]:
        return [item["attributes"]["name"] for item in program.list("devices", **query)]

    assert names() == ["Front Door"]
    assert names(filter__state="removed") == ["Driveway"]
    assert names(filter__state="online") == []
    assert names(filter__state="offline,removed") == ["Driveway", "Front Door"]
    assert program.get(f"devices/{acme.ben_camera.public_id}").status_code == 200


def test_clips_and_sessions_are_filtered_by_state(acme: TenantCast, program: Program):
    make_clip(acme.ada_camera, state="failed", error="not_recorded")
    make_clip(acme.ada_camera)
    make_session(acme.ada_camera)
    make_session(acme.ada_camera, ended_at=NOW, end_reason="closed")

    [failed] = program.list("clips", filter__state="failed,unavailable")
    assert failed["attributes"]["error"] == "not_recorded"
    assert "Ring has no recording" in failed["attributes"]["error_detail"]
    assert [
        item["attributes"]["end_reason"] for item in program.list("live-sessions", filter__state="ended")
    ] == ["closed"]
    assert len(program.list("live-sessions", filter__state="open,ended")) == 2


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("events?filter[after]=x", "filter[after]"),
        ("events?filter[after]=-1", "filter[after]"),
        ("events?filter[after]=99999999999999999999", "filter[after]"),
        ("events?filter[before]=1.5", "filter[before]"),
        ("events?filter[device]=nonsense", "filter[device]"),
        ("events?filter[event_type]=a%00b", "filter[event_type]"),
        ("events?filter[tenant]=%00", "filter[tenant]"),
        ("events?filter[colour]=red", "filter[colour]"),
        ("events?nonsense=1", "nonsense"),
        ("events?include=tenant", "include"),
        ("accounts?include=user", "include"),
        ("events?include=device.tenant", "include"),
        ("devices?sort=ring_id", "sort"),
        ("devices?filter[state]=asleep", "filter[state]"),
        ("clips?page[number]=0", "page[number]"),
        ("clips?page[number]=x", "page[number]"),
        ("clips?page[size]=-2", "page[size]"),
        ("clips?page[offset]=2", "page[offset]"),
        ("clips?include=device&include=event", "include"),
    ],
)
def test_a_query_that_is_not_understood_is_400_and_names_the_parameter(
    full, program: Program, path, parameter
):
    response = program.get(path)

    assert response.status_code == 400
    [error] = document_of(response)["errors"]
    assert error["source"] == {"parameter": parameter}


def test_a_page_past_the_end_is_404_and_a_large_size_is_cut(full: TenantCast, program: Program):
    assert program.get("clips", page__number=9).status_code == 404
    assert len(program.list("clips", page__size=10_000)) == 1


@pytest.mark.parametrize("name", RESOURCES)
def test_a_list_takes_a_bounded_number_of_queries(
    full: TenantCast, program: Program, name, django_assert_max_num_queries
):
    for number in range(2, 12):
        event = make_event(full.ben_camera, number)
        make_clip(full.ben_camera, start=NOW - timedelta(minutes=number), event=event)
        make_session(full.ben_camera)
    include = {
        "events": "device.account,account",
        "clips": "device.account,event.device.account",
        "devices": "account",
    }
    query = {"include": include[name]} if name in include else {}

    with django_assert_max_num_queries(5):
        program.list(name, **query)


# --- negotiation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/*", 200),
        (MEDIA_TYPE, 200),
        (f'{MEDIA_TYPE}; profile="https://example.com/p"', 200),
        (f'{MEDIA_TYPE}; ext="https://example.com/e", {MEDIA_TYPE}', 200),
        ("text/html, */*;q=0.1", 200),
        ("text/html", 406),
        ("application/json", 406),
        (f'{MEDIA_TYPE}; ext="https://example.com/e"', 406),
        (f"{MEDIA_TYPE}; charset=utf-8", 406),
        (f"{MEDIA_TYPE};q=0", 406),
        ("nonsense", 406),
    ],
)
def test_only_json_api_is_spoken(full: TenantCast, program: Program, accept: str, status: int):
    response = program.get("devices", headers={"Accept": accept})

    assert response.status_code == status
    document_of(response)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        f"{MEDIA_TYPE}; charset=utf-8",
        f"{MEDIA_TYPE}; ext=x",
    ],
)
def test_only_json_api_is_read(program: Program, content_type: str):
    response = program.post("clips", "{}", content_type)

    assert response.status_code == 415
    document_of(response)


# --- who may -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESOURCES)
def test_nobody_gets_401_and_is_told_how_to_come_in(full: TenantCast, name: str):
    response = Program().get(name)

    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    document_of(response)


@pytest.mark.parametrize("change", [{"revoked_at": NOW}, {"expires_at": NOW - timedelta(days=400)}])
def test_a_token_that_ended_is_401(full: TenantCast, program: Program, change):
    ApiToken.objects.update(**change)

    assert program.get("devices").status_code == 401


@pytest.mark.parametrize("token", ["ppt_wrong", "", "\xe4", "a b"])
def test_a_wrong_token_is_401(full: TenantCast, token: str):
    response = Client().get("/api/v1/devices", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 401
    document_of(response)


def test_a_token_reads_and_writes_only_within_its_scopes(full: TenantCast, make_program):
    reader, writer = make_program("read"), make_program("write")

    assert reader.get("clips").status_code == 200
    refused = reader.post("clips", {})
    assert refused.status_code == 403
    assert reader.delete(f"clips/{Clip.objects.get().public_id}").status_code == 403
    assert writer.get("clips").status_code == 403
    document_of(refused)


def test_a_customer_sees_their_own_and_staff_sees_the_whole_tenant(full: TenantCast):
    make_event(full.ben_camera, 2)

    def counts(who: Membership) -> list[int]:
        return [len(Program(person=who).list(name)) for name in RESOURCES]

    assert counts(full.ada) == [1, 1, 1, 1, 1]
    assert counts(full.ben) == [1, 1, 1, 0, 0]
    assert counts(full.operator) == [2, 2, 2, 1, 1]


def test_a_person_in_two_tenants_sees_both_and_may_narrow_it_to_one(full: TenantCast):
    other = make_cast("other")
    Membership.objects.create(tenant=other.tenant, user=full.ada.user, role=Role.OPERATOR)
    ada = Program(person=full.ada)

    def names(**query: Any) -> list[str]:
        return sorted(item["attributes"]["name"] for item in ada.list("devices", **query))

    assert names() == ["Driveway", "Front Door", "Front Door"]
    assert names(filter__tenant="acme") == ["Front Door"]
    assert names(filter__tenant="other") == ["Driveway", "Front Door"]
    assert names(filter__tenant="none-of-hers") == []


def test_a_token_belongs_to_one_tenant(full: TenantCast, make_program):
    other = make_tenant("other")
    stranger = make_program("read", "write", tenant=other)

    for name in RESOURCES:
        assert stranger.list(name) == []
        assert stranger.list(name, filter__tenant="acme") == []
    assert make_program("read").list("devices", filter__tenant="other") == []


@pytest.mark.parametrize("name", RESOURCES)
def test_another_tenants_id_and_a_missing_one_give_the_same_404(full: TenantCast, make_program, name: str):
    stranger = make_program("read", "write", tenant=make_tenant("other"))
    theirs = make_program("read").list(name)[0]["id"]

    answers = [stranger.get(f"{name}/{found}") for found in (theirs, uuid.uuid4())]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    document_of(answers[0])


@pytest.mark.parametrize("path", ["nothing", "devices/not-a-uuid", "devices/", "clips/1/2/3"])
def test_an_address_that_does_not_exist_is_a_404_document(program: Program, path: str):
    response = program.get(path)

    assert response.status_code == 404
    document_of(response)


@pytest.mark.parametrize("name", ["accounts", "devices", "events", "live-sessions"])
def test_what_is_only_read_refuses_to_be_written(full: TenantCast, program: Program, name: str):
    response = program.post(name, {"data": {"type": name}})

    assert response.status_code == 405
    document_of(response)


# --- clips -------------------------------------------------------------------------------------------------------


def ask(device: Any, **attributes: Any) -> dict[str, Any]:
    start = timezone.now() - timedelta(minutes=1)
    return {
        "data": {
            "type": "clips",
            "attributes": {"start": start.isoformat(), "duration_ms": 20_000, **attributes},
            "relationships": {"device": {"data": {"type": "devices", "id": str(device)}}},
        }
    }


def test_asking_for_a_clip_creates_it_and_says_where_it_is(acme: TenantCast, program: Program):
    response = program.post("clips", ask(acme.ada_camera.public_id, start="2026-11-22T11:59:00+00:00"))

    assert response.status_code == 201
    clip = document_of(response)["data"]
    assert response["Location"] == clip["links"]["self"]
    assert clip["attributes"]["state"] == "queued"
    assert clip["attributes"]["start"] == "2026-11-22T11:59:00Z"
    assert clip["attributes"]["duration_ms"] == 20_000
    assert clip["attributes"]["error"] is None
    assert clip["attributes"]["video_url"] is None
    assert clip["relationships"]["device"]["data"]["id"] == str(acme.ada_camera.public_id)
    entry = AuditEntry.objects.get(action="clip.requested")
    assert entry.actor is None


def test_asking_for_the_same_range_again_gives_the_same_clip(acme: TenantCast, program: Program):
    body = ask(acme.ada_camera.public_id)
    first, second = program.post("clips", body), program.post("clips", body)

    assert (first.status_code, second.status_code) == (201, 200)
    assert document_of(first)["data"]["id"] == document_of(second)["data"]["id"]


def test_a_person_asks_with_their_session_and_its_csrf_token(acme: TenantCast):
    guarded = Program(person=acme.ada, csrf=True)
    assert guarded.post("clips", ask(acme.ada_camera.public_id)).status_code == 403

    ada = Program(person=acme.ada)
    assert ada.post("clips", ask(acme.ada_camera.public_id)).status_code == 201
    assert AuditEntry.objects.get(action="clip.requested").actor == acme.ada.user
    assert ada.post("clips", ask(acme.ben_camera.public_id)).status_code == 404


IN_A_YEAR = (timezone.now() + timedelta(days=365)).isoformat()


@pytest.mark.parametrize(
    ("attributes", "status", "code", "pointer"),
    [
        ({"start": "yesterday"}, 422, "invalid", "/data/attributes/start"),
        ({"start": "2026-11-22T12:00:00"}, 422, "naive", "/data/attributes/start"),
        ({"start": None}, 422, "null", "/data/attributes/start"),
        ({"start": 5}, 422, "invalid", "/data/attributes/start"),
        ({"start": IN_A_YEAR}, 422, "in_the_future", "/data/attributes/start"),
        ({"start": "2020-01-01T00:00:00Z"}, 422, "before_consent", "/data/attributes/start"),
        ({"duration_ms": 0}, 422, "min_value", "/data/attributes/duration_ms"),
        ({"duration_ms": 900_001}, 422, "max_value", "/data/attributes/duration_ms"),
        ({"duration_ms": "long"}, 422, "invalid", "/data/attributes/duration_ms"),
        ({"duration_ms": True}, 422, "invalid", "/data/attributes/duration_ms"),
        ({"component_id": "7"}, 422, "no_video", "/data/relationships/device"),
        ({"component_id": "x" * 65}, 422, "max_length", "/data/attributes/component_id"),
        ({"component_id": "\0"}, 422, "null_characters_not_allowed", "/data/attributes/component_id"),
    ],
)
def test_a_clip_that_cannot_be_had_is_refused_with_its_reason(
    acme, program: Program, attributes, status, code, pointer
):
    response = program.post("clips", ask(acme.ada_camera.public_id, **attributes))

    assert response.status_code == status
    [error] = document_of(response)["errors"]
    assert (error["code"], error["source"]) == (code, {"pointer": pointer})
    assert not Clip.objects.exists()


def test_every_missing_attribute_is_named(acme: TenantCast, program: Program):
    body = ask(acme.ada_camera.public_id)
    body["data"]["attributes"] = {}

    errors = document_of(program.post("clips", body))["errors"]

    assert {error["source"]["pointer"] for error in errors} == {
        "/data/attributes/start",
        "/data/attributes/duration_ms",
    }


def test_a_device_without_camera_or_link_is_refused(acme: TenantCast, program: Program):
    Device.objects.filter(pk=acme.ada_camera.pk).update(has_video=False)
    RingAccount.objects.filter(pk=acme.ben_account.pk).update(state="relink_required")

    assert program.post("clips", ask(acme.ada_camera.public_id)).status_code == 422
    refused = program.post("clips", ask(acme.ben_camera.public_id))
    assert refused.status_code == 409
    assert document_of(refused)["errors"][0]["code"] == "not_linked"


def test_a_device_one_may_not_see_is_404_as_a_missing_one_is(acme: TenantCast, make_program):
    stranger = make_program("write", tenant=make_tenant("other"))

    for device in (acme.ada_camera.public_id, uuid.uuid4(), "nonsense"):
        response = stranger.post("clips", ask(device))
        assert response.status_code == 404
        assert document_of(response)["errors"][0]["source"] == {"pointer": "/data/relationships/device"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ("null", 400),
        ("\xff", 400),
        ({}, 400),
        ({"data": []}, 400),
        ({"data": {"attributes": {}}}, 400),
        ({"data": {"type": "clips", "attributes": []}}, 400),
        ({"data": {"type": "clips", "relationships": {"device": []}}}, 400),
        ({"data": {"type": "clips", "relationships": {"device": {}}}}, 400),
        ({"data": {"type": "devices"}}, 409),
        ({"data": {"type": "clips", "id": "mine"}}, 403),
    ],
)
def test_a_document_that_is_not_understood_is_refused(acme: TenantCast, program: Program, body, status):
    response = program.post("clips", body)

    assert response.status_code == status
    document_of(response)


@pytest.mark.parametrize(
    ("linkage", "status"),
    [
        (None, 422),
        ([], 422),
        ({"type": "devices"}, 422),
        ({"type": "devices", "id": 7}, 422),
        ({"type": "events", "id": "7"}, 409),
    ],
)
def test_a_relationship_that_names_no_device_is_refused(acme: TenantCast, program: Program, linkage, status):
    body = ask(acme.ada_camera.public_id)
    body["data"]["relationships"]["device"]["data"] = linkage

    response = program.post("clips", body)

    assert response.status_code == status
    [error] = document_of(response)["errors"]
    assert error["source"] == {"pointer": "/data/relationships/device"}


def test_a_clip_is_deleted_for_good(acme: TenantCast, program: Program):
    clip = make_clip(acme.ada_camera)

    response = program.delete(f"clips/{clip.public_id}")

    assert response.status_code == 204
    assert not response.content
    assert not Clip.objects.exists()
    assert program.delete(f"clips/{clip.public_id}").status_code == 404


def test_a_ready_clip_says_where_its_video_is(acme: TenantCast, program: Program):
    clip = make_clip(
        acme.ada_camera, state="ready", file="clips/a.mp4", poster="clips/a.jpg", sha256="ab", size_bytes=5
    )

    attributes = document_of(program.get(f"clips/{clip.public_id}"))["data"]["attributes"]

    assert attributes["video_url"] == f"http://testserver/t/acme/clips/{clip.public_id}/video"
    assert attributes["poster_url"] == f"http://testserver/t/acme/clips/{clip.public_id}/poster"
    assert (attributes["sha256"], attributes["size_bytes"]) == ("ab", 5)


# --- around it ---------------------------------------------------------------------------------------------------


def test_the_way_in_names_every_resource(client: Client):
    document = document_of(client.get("/api/v1/"))

    assert set(document["links"]) == {*RESOURCES, "test-events", "describedby"}


def test_the_schema_is_valid_and_complete(tmp_path):
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))

    text = (tmp_path / "schema.yaml").read_text()
    for name in RESOURCES:
        assert f"/api/v1/{name}:" in text


def test_schema_and_its_reader_need_no_account_and_nothing_from_elsewhere(client: Client):
    schema = client.get("/api/schema/", headers={"Accept": "application/json"})
    docs = client.get("/api/docs/")

    assert schema.status_code == docs.status_code == 200
    text = docs.content.decode()
    assert "https://" not in text and "<style" not in text
    assert "script-src 'self';" in docs["Content-Security-Policy"]
    assert client.get("/api/docs/", {"script": ""}).status_code == 200


def test_an_operator_added_later_is_no_stranger(acme: TenantCast):
    newcomer = make_membership(acme.tenant, "new@acme.example", Role.OPERATOR)

    assert len(Program(person=newcomer).list("devices")) == 2
