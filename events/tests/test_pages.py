"""The pages: who sees what on them, what they say, and what a reader without scripts can do."""

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import Membership, RingAccount, Role
from devices.models import Device
from events import services
from events.models import Event
from events.paging import Cursor
from events.tests.conftest import body_of
from ring.documents import parse_delivery
from tests.support.cast import (
    TenantCast,
    make_cast,
    make_linked_account,
    make_membership,
    make_tenant,
    make_user,
)


@pytest.fixture
def cast(db: None) -> TenantCast:
    return make_cast("acme")


def happen(
    cast: TenantCast, name: str, device: Device | None, *, ago: timedelta = timedelta(), **changes: Any
) -> Event:
    """Something happened, so long ago by Ring's clock."""
    moment = timezone.now() - ago
    body = body_of(
        name,
        device=device,
        timestamp=int(moment.timestamp() * 1000),
        request=Event.objects.count(),
        **changes,
    )
    recorded = services.record(services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)))
    event: Event = Event.objects.get(tenant=cast.tenant, position=recorded.position or 0)
    return event


def as_member(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def page(member: Membership, name: str, *args: Any, tenant: str = "acme", **query: str) -> str:
    answer = as_member(member).get(reverse(f"events:{name}", args=[tenant, *args]), query)
    assert answer.status_code == 200
    return answer.content.decode()


class _Rows(HTMLParser):
    """The ids of the events in a page, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs).get("data-event")
        if found:
            self.ids.append(found)


def rows_in(html: str) -> list[str]:
    parser = _Rows()
    parser.feed(html)
    return parser.ids


def ids(*events: Event) -> list[str]:
    return [str(event.public_id) for event in events]


# --- who ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dashboard", "list", "rows"])
def test_customer_sees_own_events_staff_all_outsider_nothing(cast: TenantCast, name: str):
    adas = happen(cast, "motion_detected", cast.ada_camera)
    bens = happen(cast, "button_press", cast.ben_camera)
    nobodys = happen(cast, "motion_detected", None)

    assert set(rows_in(page(cast.ada, name))) == set(ids(adas))
    assert set(rows_in(page(cast.ben, name))) == set(ids(bens))
    for member in (cast.owner, cast.operator):
        assert set(rows_in(page(member, name))) == set(ids(adas, bens, nobodys))

    other = make_cast("other")
    address = reverse(f"events:{name}", args=["acme"])
    assert as_member(other.owner).get(address).status_code == 404
    assert as_member(Membership(user=make_user("outsider@nowhere.example"))).get(address).status_code == 404
    assert Client().get(address).status_code == 302


def test_event_page_is_its_tenants_and_its_customers_alone(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    address = reverse("events:detail", args=["acme", event.public_id])
    other = make_cast("other")
    for member, status in ((cast.ada, 200), (cast.operator, 200), (cast.ben, 404), (other.owner, 404)):
        assert as_member(member).get(address).status_code == status
    # The same id under the other tenant's address is no page either.
    elsewhere = reverse("events:detail", args=["other", event.public_id])
    assert as_member(other.owner).get(elsewhere).status_code == 404


def test_another_tenants_device_in_the_address_narrows_nothing(cast: TenantCast):
    other = make_cast("other")
    event = happen(cast, "motion_detected", cast.ada_camera)
    assert rows_in(page(cast.owner, "list", device=str(other.ada_camera.public_id))) == ids(event)
    assert rows_in(page(cast.ben, "list", device=str(cast.ada_camera.public_id))) == []


# --- what -----------------------------------------------------------------------------------------------------------


def test_words_of_the_house_and_no_ids_of_the_wire(cast: TenantCast):
    happen(cast, "button_press", cast.ada_camera)
    happen(cast, "device_offline", cast.ben_camera)
    for name in ("dashboard", "list"):
        html = page(cast.owner, name)
        assert "Someone at the front door" in html and "Driveway went offline" in html
        assert "button_press" not in html and "ava1." not in html


def test_list_is_ordered_by_rings_time_not_by_arrival(cast: TenantCast):
    first = happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(minutes=1))
    late = happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(minutes=70))
    assert rows_in(page(cast.ada, "list")) == ids(first, late)


def test_filters_narrow_by_kind_device_and_day(cast: TenantCast):
    press = happen(cast, "button_press", cast.ada_camera)
    human = happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=1))
    other = happen(
        cast, "motion_detected", cast.ben_camera, ago=timedelta(seconds=2), sub_type="other_motion"
    )
    plain = happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(days=3), sub_type="motion")
    offline = happen(cast, "device_offline", cast.ben_camera, ago=timedelta(seconds=3))
    unknown = happen(cast, "never_heard_of_this", cast.ben_camera, ago=timedelta(seconds=4))

    def shown(**query: str) -> list[str]:
        return rows_in(page(cast.owner, "list", **query))

    assert shown() == ids(press, human, other, offline, unknown, plain)
    assert shown(kind="doorbell") == ids(press)
    assert shown(kind="person") == ids(human)
    assert shown(kind="motion") == ids(other, plain)
    assert shown(kind="device") == ids(offline)
    assert shown(kind="motion", device=str(cast.ben_camera.public_id)) == ids(other, plain)
    assert shown(day=timezone.localdate(plain.occurred_at).isoformat()) == ids(plain)
    for nonsense in ({"kind": "x"}, {"device": "x"}, {"day": "2026-99-99"}, {"day": "x"}, {"page": "x"}):
        assert len(shown(**nonsense)) == 6


def test_today_is_the_viewers_today(cast: TenantCast):
    """Half past midnight in Auckland is the day before in London."""
    event = happen(cast, "motion_detected", cast.ada_camera)
    moment = event.occurred_at.replace(hour=12, minute=30)
    Event.objects.update(occurred_at=moment)
    client = as_member(cast.owner)
    client.cookies["zone"] = "Pacific/Auckland"
    next_day = (moment + timedelta(days=1)).date().isoformat()
    assert (
        len(rows_in(client.get(reverse("events:list", args=["acme"]), {"day": next_day}).content.decode()))
        == 1
    )
    assert rows_in(page(cast.owner, "list", day=next_day)) == []


@pytest.mark.parametrize("zone", ["Nowhere/Land", "../../etc/passwd", "", "\x00", "x" * 5000])
def test_strange_zone_is_utc(cast: TenantCast, zone: str):
    client = as_member(cast.owner)
    client.cookies["zone"] = zone
    assert client.get(reverse("events:dashboard", args=["acme"])).status_code == 200


def test_pages_of_fifty(cast: TenantCast):
    for number in range(53):
        happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=number))
    assert len(rows_in(page(cast.owner, "list"))) == 50
    last_of_first = Event.objects.order_by("-occurred_at", "-position")[49]
    second = page(cast.owner, "list", before=str(Cursor.of(last_of_first)))
    assert len(rows_in(second)) == 3 and "53 events" in second
    assert "data-feed-url" not in second  # new events belong on the first page


def test_rows_after_a_position_are_the_newer_ones(cast: TenantCast):
    happen(cast, "motion_detected", cast.ada_camera)
    newer = happen(cast, "motion_detected", cast.ada_camera)
    assert rows_in(page(cast.ada, "rows", after="1")) == ids(newer)
    assert len(rows_in(page(cast.ada, "rows", after="nonsense"))) == 2


def test_page_says_where_its_feed_goes_on(cast: TenantCast):
    happen(cast, "motion_detected", cast.ada_camera)
    html = page(cast.ben, "dashboard")
    assert 'data-feed-after="1"' in html and 'data-feed-url="/ws/t/acme/events/"' in html


def test_event_page_shows_its_surroundings_on_the_same_device(cast: TenantCast):
    before = happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(minutes=2))
    event = happen(cast, "button_press", cast.ada_camera, ago=timedelta(minutes=1))
    after = happen(cast, "motion_detected", cast.ada_camera)
    happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(minutes=1))
    assert rows_in(page(cast.owner, "detail", event.public_id)) == ids(after, before)


def test_raw_delivery_is_for_the_tenants_staff(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    staff, customer = (page(member, "detail", event.public_id) for member in (cast.owner, cast.ada))
    assert "request_id" in staff and cast.ada_account.ring_id in staff
    assert cast.ada_account.ring_id not in customer


def test_event_dated_ahead_of_its_arrival_says_so(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera, ago=-timedelta(hours=2))
    assert "clock" in page(cast.owner, "detail", event.public_id)


def test_hostile_names_stay_text(cast: TenantCast):
    cast.ada_camera.name = "<script>alert(1)</script>"
    cast.ada_camera.save()
    event = happen(cast, "device_offline", cast.ada_camera)
    for html in (
        page(cast.owner, "dashboard"),
        page(cast.owner, "list"),
        page(cast.owner, "detail", event.public_id),
    ):
        assert "<script>alert" not in html and "&lt;script&gt;alert" in html


# --- nothing yet ------------------------------------------------------------------------------------------------------


@pytest.fixture
def empty(db: None) -> Iterator[tuple[Membership, Membership]]:
    tenant = make_tenant("fresh")
    yield (
        make_membership(tenant, "customer@fresh.example", Role.CUSTOMER),
        make_membership(tenant, "owner@fresh.example", Role.OWNER),
    )


def test_empty_home_says_how_to_link(empty: tuple[Membership, Membership]):
    customer, owner = empty
    assert "Link your Ring account" in page(customer, "dashboard", tenant="fresh")
    assert "No home is linked yet" in page(owner, "dashboard", tenant="fresh")
    assert "Nothing has happened yet" in page(owner, "list", tenant="fresh")


def test_linked_home_without_devices_says_whether_ring_has_answered(empty: tuple[Membership, Membership]):
    customer, _ = empty
    account = make_linked_account(customer.tenant, customer.user, ring_id="ava1.ring.account.fresh.1")
    assert "come from Ring within a minute" in page(customer, "dashboard", tenant="fresh")
    RingAccount.objects.filter(pk=account.pk).update(synced_at=timezone.now())
    assert "Ring names no device at present" in page(customer, "dashboard", tenant="fresh")


def test_filters_without_a_match_offer_to_clear_them(cast: TenantCast):
    assert "Clear the filters" in page(cast.owner, "list", kind="person")


def test_queries_do_not_grow_with_the_rows(cast: TenantCast, django_assert_max_num_queries: Any):
    for number in range(30):
        happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(seconds=number))
    client = as_member(cast.owner)
    for name in ("list", "rows"):
        with django_assert_max_num_queries(14):
            assert client.get(reverse(f"events:{name}", args=["acme"])).status_code == 200


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_today_is_counted_by_the_hour_of_the_viewer(cast: TenantCast, zone: str):
    events = [happen(cast, "motion_detected", cast.ada_camera) for _ in range(2)]
    happen(cast, "motion_detected", cast.ada_camera, ago=timedelta(days=2))
    client = as_member(cast.owner)
    client.cookies["zone"] = zone
    context = client.get(reverse("events:dashboard", args=["acme"])).context

    expected = [0] * 24
    for event in events:
        expected[event.occurred_at.astimezone(ZoneInfo(zone)).hour] += 1
    assert (context["hours"], context["today_count"]) == (expected, 2)
