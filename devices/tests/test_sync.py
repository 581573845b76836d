"""The inventory follows Ring: what comes, what stays, what goes, and who wins when news and list disagree."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

from django.utils import timezone

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount
from accounts.services import client_for, unlink_account
from accounts.signals import ring_account_linked
from devices import services, signals, tasks
from devices.models import AccountSync, Device
from devices.tests.conftest import LIST, SUBSCRIPTIONS, included, one, only, ring_list
from ring.documents import parse_devices
from ring.errors import MalformedDocument, RingUnauthorized
from ring.tests.server import ScriptedServer, error_reply, json_reply
from tests.support.cast import NOW
from tests.support.receiving import received

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _no_subscriptions(ring: ScriptedServer) -> None:
    """Ring has none to tell of: the app is not published."""
    ring.script("GET", SUBSCRIPTIONS, *[error_reply(404)] * 20)


def sync(account: RingAccount, now: datetime = NOW) -> int:
    with client_for(account) as client:
        return services.sync_devices(account=account, client=client, now=now)


def sync_one(account: RingAccount, ring_id: str, now: datetime = NOW) -> Device | None:
    with client_for(account) as client:
        return services.sync_device(account=account, client=client, ring_id=ring_id, now=now)


def device(account: RingAccount, name: str) -> Device:
    return account.devices.get(name=name)


# --- what comes --------------------------------------------------------------------------------------------------


def test_the_whole_list_becomes_devices_with_what_ring_says_of_them(account, ring_lists):
    ring_lists(ring_list())

    assert sync(account) == 5

    names = list(account.devices.values_list("name", flat=True))
    assert names == ["Back Door Sensor", "Driveway", "Front Door", "Hall", "Yard"]
    door = device(account, "Front Door")
    assert (door.kind, door.has_video, door.online, door.tenant) == ("camera", True, True, account.tenant)
    assert door.online_changed_at == datetime(2026, 11, 22, 11, 59, 30, tzinfo=UTC)
    assert door.document("device-configurations")["attributes"]["audio"]["volume"] == 11
    assert device(account, "Yard").session_cap_s == 60
    assert device(account, "Driveway").session_cap_s == 30
    account.refresh_from_db()
    assert account.synced_at == NOW


def test_syncing_again_changes_what_changed_and_keeps_identity(account, ring_lists):
    renamed = ring_list()
    one(renamed, "Front Door")["data"]["attributes"]["name"] = "Porch"
    ring_lists(ring_list(), renamed)
    sync(account)
    before = device(account, "Front Door")

    sync(account, NOW + MINUTE)

    after = device(account, "Porch")
    assert (after.pk, after.public_id, after.first_seen_at) == (
        before.pk,
        before.public_id,
        before.first_seen_at,
    )
    assert after.seen_at == NOW + MINUTE
    assert account.devices.count() == 5


def test_pages_are_read_to_the_end(account, ring):
    first = {**only(ring_list(), "Front Door"), "links": {"next": "/v1/devices?page=2"}}
    ring.script("GET", LIST, json_reply(first), json_reply(only(ring_list(), "Hall")))

    assert sync(account) == 2


def test_every_synced_device_is_announced(account, ring_lists):
    ring_lists(ring_list(), ring_list())
    sync(account)

    with received(signals.device_synced) as calls:
        sync(account, NOW + MINUTE)

    assert {call["device"].name for call in calls} == {
        "Front Door",
        "Driveway",
        "Yard",
        "Hall",
        "Back Door Sensor",
    }


def test_lists_that_look_different_are_announced_once_for_each_answer_and_no_other(account, ring_lists):
    renamed = ring_list()
    one(renamed, "Front Door")["data"]["attributes"]["name"] = "Porch"
    nothing_but_the_battery = ring_list()
    one(nothing_but_the_battery, "Front Door")["data"]["attributes"]["name"] = "Porch"
    included(nothing_but_the_battery, "Driveway", "status")["power"] = {"battery_percent": 3}
    offline = deepcopy(nothing_but_the_battery)
    included(offline, "Porch", "status")["online"] = False
    ring_lists(ring_list(), ring_list(), renamed, nothing_but_the_battery, offline)

    def announced(when: datetime) -> int:
        with received(signals.inventory_changed) as calls:
            sync(account, when)
        return len(calls)

    assert announced(NOW) == 1
    assert announced(NOW + MINUTE) == 0
    assert announced(NOW + 2 * MINUTE) == 1
    assert announced(NOW + 3 * MINUTE) == 0
    assert announced(NOW + 4 * MINUTE) == 1


def test_first_answer_is_announced_though_ring_names_no_device(account, ring_lists):
    ring_lists(only(ring_list()), only(ring_list()))

    with received(signals.inventory_changed) as calls:
        sync(account)
        sync(account, NOW + MINUTE)

    assert [call["account"] for call in calls] == [account]


# --- what stays --------------------------------------------------------------------------------------------------


def test_a_failure_half_way_through_the_list_changes_nothing(account, ring):
    first = {**only(ring_list(), "Front Door"), "links": {"next": "/v1/devices?page=2"}}
    ring.script("GET", LIST, json_reply(first), error_reply(403))

    with pytest.raises(Exception, match="refused"):
        sync(account)

    assert not account.devices.exists()
    account.refresh_from_db()
    assert account.synced_at is None


def test_a_resource_included_in_two_versions_fails_the_sync_and_changes_nothing(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    conflicting = ring_list()
    status = next(item for item in conflicting["included"] if item["type"] == "device-status")
    conflicting["included"].append({**status, "attributes": {"online": False}})
    ring_lists(conflicting)

    with pytest.raises(MalformedDocument):
        sync(account, NOW + MINUTE)

    assert set(account.devices.values_list("seen_at", flat=True)) == {NOW}


def test_a_device_that_is_not_in_the_list_is_not_removed(account, ring_lists):
    ring_lists(ring_list(), only(ring_list(), "Hall"))
    sync(account)

    sync(account, NOW + MINUTE)

    assert account.devices.present().count() == 5
    assert len(services.absent_devices(account)) == 4


def test_an_answer_without_included_keeps_what_was_known(account, ring_lists):
    ring_lists(ring_list(), {**ring_list(), "included": []})
    sync(account)

    sync(account, NOW + MINUTE)

    yard = device(account, "Yard")
    assert (yard.kind, yard.components, yard.online, yard.is_battery_powered) == (
        "camera",
        ["0", "1"],
        True,
        False,
    )


# --- what goes, and comes back -----------------------------------------------------------------------------------


def test_a_device_ring_answers_404_for_is_removed(account, ring, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")
    ring.script("GET", f"{LIST}/{door.ring_id}", error_reply(404))

    with received(signals.device_removed) as calls:
        assert sync_one(account, door.ring_id, NOW + MINUTE) is None

    door.refresh_from_db()
    assert door.removed_at == NOW + MINUTE
    assert [call["device"] for call in calls] == [door]


def test_a_404_read_before_the_device_was_last_seen_removes_nothing(account, ring, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")
    ring.script("GET", f"{LIST}/{door.ring_id}", error_reply(404))

    sync_one(account, door.ring_id, NOW - MINUTE)

    door.refresh_from_db()
    assert door.removed_at is None


def test_a_device_added_alone_comes_in_alone(account, ring):
    ring.script("GET", f"{LIST}/ava1.ring.device.DOOR", json_reply(one(ring_list(), "Front Door")))

    added = sync_one(account, "ava1.ring.device.DOOR")

    assert added is not None
    assert list(account.devices.all()) == [added]
    account.refresh_from_db()
    assert account.synced_at is None  # the list itself has not been read


def test_a_removed_device_comes_back_with_its_history(account, ring_lists):
    ring_lists(ring_list(), ring_list())
    sync(account)
    door = device(account, "Front Door")
    services.remove_device(device=door, at=NOW + MINUTE)
    assert not account.devices.present().filter(pk=door.pk).exists()

    sync(account, NOW + 2 * MINUTE)

    assert account.devices.present().filter(pk=door.pk).exists()
    assert account.devices.count() == 5


def test_a_removal_is_announced_once_however_often_it_arrives(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    with received(signals.device_removed) as calls:
        services.remove_device(device=door, at=NOW + MINUTE)
        services.remove_device(device=door, at=NOW + 2 * MINUTE)

    assert len(calls) == 1
    assert door.removed_at == NOW + MINUTE


def test_a_removal_while_the_list_is_read_wins_over_the_list(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    class Slow:
        """Ring's list was made before the removal, and arrives after it."""

        def iter_devices(self):
            services.remove_device(device=door, at=NOW + MINUTE)
            yield from parse_devices(ring_list())

    services.sync_devices(account=account, client=Slow(), now=NOW + 2 * MINUTE)  # type: ignore[arg-type]

    door.refresh_from_db()
    assert door.removed_at == NOW + MINUTE


@pytest.mark.django_db(transaction=True)
def test_a_late_removal_of_a_device_that_is_back_is_put_right_by_asking_ring(
    account, ring, ring_lists, run_tasks
):
    now = timezone.now()
    ring_lists(ring_list())
    sync(account, now)
    door = device(account, "Front Door")
    ring.script("GET", f"{LIST}/{door.ring_id}", json_reply(one(ring_list(), "Front Door")))

    services.remove_device(device=door, at=now - timedelta(hours=1))
    assert door.removed_at == now  # at once, whatever its age
    run_tasks()

    door.refresh_from_db()
    assert door.removed_at is None


def test_unlinking_withdraws_the_devices_and_linking_brings_them_back(account, ring_lists):
    ring_lists(ring_list(), ring_list())
    sync(account)
    unlink_account(account=account, now=NOW + MINUTE, reason="removed_in_ring")

    assert not account.devices.present().exists()
    assert account.devices.count() == 5

    account.state = RingAccount.State.LINKED
    account.access_token, account.refresh_token = "access-2", "refresh-2"
    account.tokens_obtained_at, account.access_expires_at = (
        timezone.now(),
        timezone.now() + timedelta(hours=4),
    )
    account.save()
    sync(account, timezone.now())

    assert account.devices.present().count() == 5


def test_a_sync_that_was_overtaken_by_unlinking_writes_nothing(account):
    class Unlinking:
        """The account is unlinked while Ring answers."""

        def iter_devices(self):
            unlink_account(account=RingAccount.objects.get(pk=account.pk), now=NOW, reason="removed_in_ring")
            yield from parse_devices(ring_list())

    with pytest.raises(RingUnauthorized):
        services.sync_devices(account=account, client=Unlinking(), now=NOW)  # type: ignore[arg-type]

    assert not account.devices.exists()


def test_an_older_reading_does_not_overwrite_a_newer_one(account, ring_lists):
    old = ring_list()
    one(old, "Front Door")["data"]["attributes"]["name"] = "Old name"
    ring_lists(ring_list(), old)
    sync(account, NOW + MINUTE)

    sync(account, NOW)

    assert account.devices.filter(name="Front Door", seen_at=NOW + MINUTE).exists()


# --- connectivity ------------------------------------------------------------------------------------------------


def test_connectivity_follows_rings_time_and_not_the_order_of_arrival(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    assert services.record_connectivity(device=door, online=False, at=NOW + 2 * MINUTE)
    assert not services.record_connectivity(device=door, online=True, at=NOW + MINUTE)
    assert not services.record_connectivity(device=door, online=True, at=NOW + 2 * MINUTE)

    assert (door.online, door.online_changed_at) == (False, NOW + 2 * MINUTE)
    assert services.record_connectivity(device=door, online=True, at=NOW + 3 * MINUTE)
    assert door.online is True


def test_going_offline_is_announced_once_and_only_when_it_is_news(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    with received(signals.device_offline) as calls:
        services.record_connectivity(device=door, online=False, at=NOW + MINUTE)
        services.record_connectivity(device=door, online=False, at=NOW + MINUTE)
        services.record_connectivity(device=door, online=False, at=NOW - timedelta(days=1))

    assert len(calls) == 1


def test_open_pages_look_again_whenever_a_device_goes_off_or_on(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    with received(signals.inventory_changed) as calls:
        services.record_connectivity(device=door, online=False, at=NOW + MINUTE)
        services.record_connectivity(device=door, online=False, at=NOW + 2 * MINUTE)
        services.record_connectivity(device=door, online=True, at=NOW + MINUTE)
        assert len(calls) == 1
        services.record_connectivity(device=door, online=True, at=NOW + 3 * MINUTE)

    assert [call["account"] for call in calls] == [account, account]


def test_the_status_of_a_sync_is_taken_and_going_offline_announced(account, ring_lists):
    offline = ring_list()
    included(offline, "Front Door", "status")["online"] = False
    ring_lists(ring_list(), offline)
    sync(account)

    with received(signals.device_offline) as calls:
        sync(account, NOW + MINUTE)

    assert device(account, "Front Door").online is False
    assert [call["device"].name for call in calls] == ["Front Door"]


def test_connectivity_told_by_webhook_while_the_list_is_read_wins_over_the_list(account, ring_lists):
    ring_lists(ring_list())
    sync(account)
    door = device(account, "Front Door")

    class Slow:
        def iter_devices(self):
            services.record_connectivity(device=door, online=False, at=NOW + MINUTE)
            yield from parse_devices(ring_list())

    services.sync_devices(account=account, client=Slow(), now=NOW + 2 * MINUTE)  # type: ignore[arg-type]

    door.refresh_from_db()
    assert door.online is False


def test_a_device_that_never_reported_has_a_state_all_the_same(account, ring_lists):
    document = ring_list()
    included(document, "Front Door", "status")["reported_at"] = "1970-01-01T00:00:00Z"
    ring_lists(document)

    sync(account)

    assert device(account, "Front Door").online_changed_at == NOW


# --- finding -----------------------------------------------------------------------------------------------------


def test_a_device_is_found_by_ring_id_within_its_tenant_and_account(acme):
    found = services.find_device(
        tenant=acme.tenant, ring_id=acme.ben_camera.ring_id, account_ring_id=acme.ben_account.ring_id
    )
    assert found == acme.ben_camera
    assert (
        services.find_device(tenant=acme.tenant, ring_id=acme.ben_camera.ring_id, account_ring_id="") == found
    )
    wrong = services.find_device(
        tenant=acme.tenant, ring_id=acme.ben_camera.ring_id, account_ring_id=acme.ada_account.ring_id
    )
    assert wrong is None
    assert services.find_device(tenant=acme.tenant, ring_id="", account_ring_id="") is None


def test_of_two_devices_with_one_ring_id_the_shared_one_is_found(acme):
    twin = Device.objects.create(
        tenant=acme.tenant,
        ring_account=acme.ada_account,
        ring_id=acme.ben_camera.ring_id,
        name="x",
        seen_at=NOW,
    )
    services.remove_device(device=acme.ben_camera, at=NOW)

    assert services.find_device(tenant=acme.tenant, ring_id=twin.ring_id, account_ring_id="") == twin


# --- by itself ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_linking_syncs_at_once(account, ring_lists, run_tasks):
    ring_lists(ring_list())

    ring_account_linked.send(sender=RingAccount, account=account)
    run_tasks()

    assert account.devices.count() == 5
    row = AccountSync.objects.get(ring_account=account)
    assert row.next_attempt_at is not None
    assert timedelta(minutes=13) < row.next_attempt_at - timezone.now() < timedelta(minutes=17)
    assert row.last_error == ""


@pytest.mark.django_db(transaction=True)
def test_a_sync_that_is_not_due_asks_nothing(account, ring, ring_lists, run_tasks):
    ring_lists(ring_list())
    services.plan_sync(account=account, now=timezone.now())
    run_tasks()
    asked = len(ring.received)

    tasks.sync_account_devices.enqueue(account.pk)
    run_tasks()

    assert len(ring.received) == asked


@pytest.mark.django_db(transaction=True)
def test_a_failed_sync_is_tried_again_until_ring_answers(account, ring, run_tasks):
    ring.script("GET", LIST, error_reply(503, Retry_After="120"), json_reply(ring_list()))
    services.plan_sync(account=account, now=timezone.now())
    run_tasks()

    row = AccountSync.objects.get(ring_account=account)
    assert row.last_error == "RingUnavailable"
    assert row.next_attempt_at is not None
    assert row.next_attempt_at > timezone.now() + timedelta(seconds=110)  # Ring's own pause

    AccountSync.objects.update(next_attempt_at=timezone.now() - MINUTE)  # the pause is over, the task lost
    tasks.sweep_device_syncs.enqueue()
    run_tasks()

    assert account.devices.count() == 5
    row.refresh_from_db()
    assert (row.attempts, row.last_error) == (0, "")


@pytest.mark.django_db(transaction=True)
def test_refused_tokens_end_syncing_quietly(account, ring, run_tasks):
    ring.script("GET", LIST, error_reply(401))
    ring.script("POST", "/oauth/token", json_reply({"error": "invalid_grant"}, 400))
    services.plan_sync(account=account, now=timezone.now())

    run_tasks()

    row = AccountSync.objects.get(ring_account=account)
    assert (row.next_attempt_at, row.last_error) == (None, "NotLinked")
    account.refresh_from_db()
    assert account.state == RingAccount.State.RELINK_REQUIRED


@pytest.mark.django_db(transaction=True)
def test_a_plan_that_lapsed_is_asked_about_again_later_and_removes_nothing(
    account, ring, ring_lists, run_tasks
):
    ring_lists(ring_list())
    sync(account, timezone.now())
    ring.script("GET", LIST, error_reply(403))
    services.plan_sync(account=account, now=timezone.now())

    run_tasks()

    row = AccountSync.objects.get(ring_account=account)
    assert row.last_error == "RingForbidden"
    assert row.next_attempt_at is not None
    assert row.next_attempt_at > timezone.now() + 10 * MINUTE
    assert account.devices.present().count() == 5


@pytest.mark.django_db(transaction=True)
def test_ring_is_asked_about_each_absent_device_and_only_its_404_removes_one(
    account, ring, ring_lists, run_tasks
):
    ring_lists(ring_list(), only(ring_list(), "Hall", "Yard", "Driveway"))
    sync(account, timezone.now())
    ring.script("GET", f"{LIST}/ava1.ring.device.DOOR", error_reply(404))
    ring.script("GET", f"{LIST}/ava1.ring.device.CONTACT", error_reply(403))

    services.plan_sync(account=account, now=timezone.now())
    run_tasks()

    assert list(account.devices.exclude(removed_at=None).values_list("name", flat=True)) == ["Front Door"]


@pytest.mark.django_db(transaction=True)
def test_the_sweep_adopts_linked_accounts_nobody_planned_a_sync_for(account, acme, ring_lists, run_tasks):
    ring_lists(ring_list())
    RingAccount.objects.filter(pk=acme.ben_account.pk).update(state=RingAccount.State.RELINK_REQUIRED)

    tasks.sweep_device_syncs.enqueue()
    run_tasks()

    assert account.devices.count() == 5
    assert not AccountSync.objects.filter(ring_account=acme.ben_account).exists()


@pytest.mark.django_db(transaction=True)
def test_unlinking_ends_the_syncing(account, ring_lists, run_tasks):
    ring_lists(ring_list())
    services.plan_sync(account=account, now=timezone.now())
    run_tasks()

    unlink_account(account=account, now=timezone.now(), reason="disconnected")

    assert AccountSync.objects.get(ring_account=account).next_attempt_at is None


@pytest.mark.django_db(transaction=True)
def test_one_device_ring_does_not_answer_for_is_tried_again(account, ring, run_tasks):
    path = f"{LIST}/ava1.ring.device.DOOR"
    ring.script("GET", path, error_reply(429, Retry_After="60"))
    tasks.sync_one_device.enqueue(account.pk, "ava1.ring.device.DOOR")
    run_tasks()

    waiting = DBTaskResult.objects.filter(status="READY").get()
    assert waiting.args_kwargs["args"][2] == 2
    assert waiting.run_after > timezone.now() + timedelta(seconds=50)
