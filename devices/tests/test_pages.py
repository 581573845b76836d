"""The device pages: who sees what, in which words, and what they offer."""

import uuid
from datetime import timedelta

from django.test import Client
from django.urls import reverse

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import Membership, RingAccount, Role
from devices import services
from devices.describe import documents_of
from devices.grants import Grant
from devices.models import AccountSync, Device
from devices.tests.conftest import one, ring_list
from ring.documents import parse_device
from tests.support.cast import NOW, TenantCast, make_cast, make_membership

pytestmark = pytest.mark.django_db


def page(who: Membership, name: str = "list", *args: object, **query: str) -> str:
    client = Client()
    client.force_login(who.user)
    response = client.get(reverse(f"devices:{name}", args=[who.tenant.slug, *args]), query)
    assert response.status_code == 200
    return response.content.decode()


def described(device: Device, name: str) -> Device:
    """Let a device be what Ring says of the one called `name` in the recorded list."""
    document = parse_device(one(ring_list(), name))
    device.documents = documents_of(document)
    device.save()
    return device


def test_a_customer_sees_their_own_devices_and_staff_everybodys(acme: TenantCast):
    own = page(acme.ada)
    all_of_them = page(acme.operator)

    assert "Front Door" in own and "Driveway" not in own
    assert "Front Door" in all_of_them and "Driveway" in all_of_them


@pytest.mark.parametrize("name", ["list", "detail"])
def test_a_stranger_finds_nothing_and_a_visitor_is_asked_to_sign_in(acme: TenantCast, client: Client, name):
    stranger = make_cast("other").owner
    args = ["acme"] if name == "list" else ["acme", acme.ada_camera.public_id]
    url = reverse(f"devices:{name}", args=args)

    assert client.get(url)["Location"].startswith(reverse("account_login"))
    client.force_login(stranger.user)
    assert client.get(url).status_code == 404


def test_another_customers_device_and_a_missing_one_give_the_same_404(acme: TenantCast, client: Client):
    client.force_login(acme.ada.user)

    for device in (acme.ben_camera.public_id, uuid.uuid4()):
        assert client.get(reverse("devices:detail", args=["acme", device])).status_code == 404


def test_an_offline_device_stays_with_its_state_in_words(acme: TenantCast):
    services.record_connectivity(device=acme.ada_camera, online=False, at=NOW + timedelta(minutes=1))

    listed, alone = page(acme.ada), page(acme.ada, "detail", acme.ada_camera.public_id)

    assert "Offline" in listed and "Last heard from" in listed
    assert "It is offline" in alone


def test_each_camera_of_a_device_has_its_own_tile_and_player(acme: TenantCast):
    acme.ada_camera.components = ["0", "a b"]
    acme.ada_camera.save()

    listed, alone = page(acme.ada), page(acme.ada, "detail", acme.ada_camera.public_id)

    assert listed.count('class="tile"') == 2
    assert "Front Door, camera 2" in listed
    assert alone.count("data-player ") == 2 or alone.count("data-whep=") == 2
    assert "component=a%20b" in alone


def test_ring_ids_are_on_no_page_of_a_customer(acme: TenantCast):
    described(acme.ada_camera, "Front Door")
    texts = page(acme.ada) + page(acme.ada, "detail", acme.ada_camera.public_id)

    assert "ava1.ring" not in texts


def test_what_ring_sent_is_one_click_away_for_tenant_admins_only(acme: TenantCast):
    described(acme.ada_camera, "Front Door")

    assert "As Ring sent it" in page(acme.owner, "detail", acme.ada_camera.public_id)
    assert "ava1.ring.location" in str(acme.ada_camera.documents)
    assert "&quot;state&quot;: &quot;WA&quot;" not in page(acme.owner, "detail", acme.ada_camera.public_id)
    for who in (acme.operator, acme.ada):
        assert "As Ring sent it" not in page(who, "detail", acme.ada_camera.public_id)


def test_settings_of_the_owner_are_shown_and_not_offered_for_change(acme: TenantCast):
    described(acme.ada_camera, "Driveway")

    text = page(acme.ada, "detail", acme.ada_camera.public_id)

    assert "Motion detection" in text and "<dd>Off</dd>" in text
    assert "Privacy zones</dt><dd>1</dd>" in text
    assert "Only its owner can change these, in the Ring app" in text
    assert 'data-advice="motion_off"' in text and 'data-advice="privacy_zones"' in text


def test_a_device_without_video_has_no_player_and_no_clip_button(acme: TenantCast):
    chime = described(acme.ada_camera, "Hall")
    chime.has_video, chime.kind = False, Device.Kind.CHIME
    chime.save()

    text = page(acme.ada, "detail", chime.public_id)

    assert "data-whep" not in text and "Keep the last 30 s" not in text
    assert "Live view" not in text


def test_a_removed_device_is_kept_apart_and_says_how_to_have_it_back(acme: TenantCast):
    services.remove_device(device=acme.ada_camera, at=NOW + timedelta(minutes=1))

    assert "Front Door" not in page(acme.ada)
    assert "Front Door" in page(acme.ada, show="removed")
    alone = page(acme.ada, "detail", acme.ada_camera.public_id)
    assert 'data-advice="not_shared"' in alone
    assert "data-whep" not in alone


@pytest.mark.parametrize(
    ("code", "make"),
    [
        (
            "link_again",
            lambda cast: RingAccount.objects.filter(pk=cast.ada_account.pk).update(state="relink_required"),
        ),
        (
            "no_plan",
            lambda cast: AccountSync.objects.create(
                tenant=cast.tenant, ring_account=cast.ada_account, last_error="RingForbidden"
            ),
        ),
        (
            "not_listed",
            lambda cast: RingAccount.objects.filter(pk=cast.ada_account.pk).update(
                synced_at=NOW + timedelta(minutes=1)
            ),
        ),
        (
            "encrypted",
            lambda cast: Device.objects.filter(pk=cast.ada_camera.pk).update(
                documents={
                    "devices": {"type": "devices", "id": "x"},
                    "device-configurations": {
                        "type": "device-configurations",
                        "id": "y",
                        "attributes": {"e2e_encryption": {"enabled": True}},
                    },
                }
            ),
        ),
    ],
)
def test_what_stands_in_the_way_is_explained_with_the_way_out(acme: TenantCast, code, make):
    assert "data-advice=" not in page(acme.ada, "detail", acme.ada_camera.public_id)

    make(acme)

    text = page(acme.ada, "detail", acme.ada_camera.public_id)
    assert f'data-advice="{code}"' in text
    assert "Ring app" in text or code == "not_listed"


def test_the_list_without_an_account_says_how_to_link_one(acme: TenantCast):
    Device.objects.all().delete()
    RingAccount.objects.update(state="unlinked", user=None)

    assert "Open the Ring app, choose Acme under Apps" in page(acme.ada)
    assert "A customer opens the Ring app" in page(acme.operator)


def test_a_guest_is_not_told_to_link_what_is_not_theirs(acme: TenantCast):
    guest = make_membership(acme.tenant, "guest@acme.example", Role.GUEST)
    Grant.objects.create(tenant=acme.tenant, membership=guest, device=acme.ada_camera, live=True, events=True)
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(state="relink_required")

    for text in (page(guest), page(guest, "detail", acme.ada_camera.public_id)):
        assert "Not linked" in text
        assert "ink again" not in text and "linked again" not in text and "go to Apps" not in text
    assert "There is nothing for you to do" in page(guest, "detail", acme.ada_camera.public_id)
    assert "go to Apps" in page(acme.ada, "detail", acme.ada_camera.public_id)


def test_the_list_of_a_linked_account_without_devices_says_that_ring_is_being_asked(acme: TenantCast):
    Device.objects.all().delete()

    assert "Ring is being asked for the devices" in page(acme.ada)


def test_the_list_can_be_searched_and_says_when_nothing_matches(acme: TenantCast):
    assert "Driveway" in page(acme.operator, q="drive")
    assert "Front Door" not in page(acme.operator, q="drive")
    assert "No device matches" in page(acme.operator, q="zzz")


@pytest.mark.parametrize("query", [{"page": "nonsense"}, {"page": "999"}, {"q": "\x00"}, {"show": "?"}])
def test_nonsense_in_the_address_gives_a_page_all_the_same(acme: TenantCast, query):
    page(acme.ada, **query)


def test_asking_ring_now_plans_a_sync_of_what_one_may_see(acme: TenantCast, client: Client):
    client.force_login(acme.ada.user)

    response = client.post(reverse("devices:sync", args=["acme"]))

    assert response["Location"] == reverse("devices:list", args=["acme"])
    assert [row.ring_account for row in AccountSync.objects.all()] == [acme.ada_account]


def test_asking_again_at_once_asks_ring_only_once(acme: TenantCast, client: Client):
    client.force_login(acme.ada.user)
    client.post(reverse("devices:sync", args=["acme"]))
    AccountSync.objects.update(tried_at=AccountSync.objects.get().next_attempt_at)

    client.post(reverse("devices:sync", args=["acme"]))

    assert DBTaskResult.objects.count() == 1


def test_asking_ring_is_a_post(acme: TenantCast, client: Client):
    client.force_login(acme.ada.user)

    assert client.get(reverse("devices:sync", args=["acme"])).status_code == 405


def test_a_page_of_devices_takes_a_bounded_number_of_queries(
    acme: TenantCast, client: Client, django_assert_max_num_queries
):
    for number in range(30):
        Device.objects.create(
            tenant=acme.tenant,
            ring_account=acme.ada_account,
            ring_id=f"chime-{number}",
            name=f"Chime {number}",
            kind=Device.Kind.CHIME,
            seen_at=NOW,
        )

    client.force_login(acme.operator.user)

    with django_assert_max_num_queries(20):
        client.get(reverse("devices:list", args=["acme"]))
