"""The page after linking, and the tour: what stands in the way of watching is said with the way out."""

import copy
from typing import Any

import pytest

from devices.models import AccountSync, Device
from onboarding.tests.conftest import signed_in
from tests.support.cast import NOW, TenantCast

pytestmark = pytest.mark.django_db


def page_of(cast: TenantCast) -> str:
    answer = signed_in(cast.ada).get(f"/t/acme/linked/{cast.ada_account.public_id}/")
    assert answer.status_code == 200
    return answer.content.decode()


def configure(device: Device, **attributes: Any) -> None:
    documents = copy.deepcopy(device.documents)
    documents["devices"] = {"type": "devices", "id": device.ring_id, "attributes": {"name": device.name}}
    documents["device-configurations"] = {
        "type": "device-configurations",
        "id": "c1",
        "attributes": attributes,
    }
    device.documents = documents
    device.save()


@pytest.fixture
def synced(acme: TenantCast) -> TenantCast:
    acme.ada_account.synced_at = NOW
    acme.ada_account.save()
    return acme


def test_each_device_is_named_with_its_state_and_one_button_finishes(synced: TenantCast):
    page = page_of(synced)
    assert "Front Door" in page
    assert "Online" in page
    assert "Driveway" not in page, "another customer's"
    assert page.count("Finish</a>") == 1
    assert 'href="/t/acme/?tour=1"' in page
    assert "data-advice" not in page


@pytest.mark.parametrize(
    ("attributes", "code", "way_out"),
    [
        ({"e2e_encryption": {"enabled": True}}, "encrypted", "pause the encryption in the Ring app"),
        (
            {
                "image_enhancements": {
                    "privacy_zones": [{"id": "z", "vertices": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]}]
                }
            },
            "privacy_zones",
            "change the zones in the Ring app",
        ),
        ({"motion_detection": {"enabled": "off"}}, "motion_off", "Motion Settings"),
    ],
)
def test_what_keeps_a_camera_from_being_watched_is_said_with_the_way_out(
    synced: TenantCast, attributes, code, way_out
):
    configure(synced.ada_camera, **attributes)
    page = page_of(synced)
    assert f'data-advice="{code}"' in page
    assert way_out in page


def test_a_home_without_a_plan_is_told_so_instead_of_waiting_for_ever(acme: TenantCast):
    assert "Fetching your devices" in page_of(acme)
    AccountSync.objects.create(
        tenant=acme.tenant, ring_account=acme.ada_account, last_error="RingForbidden", tried_at=NOW
    )
    Device.objects.all().delete()
    page = page_of(acme)
    assert "Fetching your devices" not in page
    assert 'data-advice="no_plan"' in page
    assert "Menu, Ring plan" in page

    AccountSync.objects.update(last_error="RingUnavailable")
    page = page_of(acme)
    assert 'data-advice="ring_silent"' in page
    assert "We ask again by ourselves" in page


def test_the_tour_is_a_list_without_a_script_and_comes_only_when_asked_for(acme: TenantCast):
    ada = signed_in(acme.ada)
    assert b"data-tour" not in ada.get("/t/acme/").content
    page = ada.get("/t/acme/?tour=1").content.decode()
    assert page.count("data-tour-step=") == 5
    assert 'href="/t/acme/" data-tour-skip' in page, "skipping works without a script"
    assert "style=" not in page.partition("data-tour")[2].partition("</section>")[0]
    assert 'href="/t/acme/?tour=1"' in ada.get("/t/acme/settings/").content.decode(), "it can be taken again"
