"""The list of events as a tool: filters in the address, the bars, page after page, and files of what it shows."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

import pytest
from asgiref.sync import sync_to_async

from accounts.models import AuditEntry, Membership, Role
from devices.models import Grant
from events.export import BATCH
from events.models import Event, TenantPosition
from events.tests.test_pages import as_member, happen, ids, page, rows_in
from tests.support.cast import TenantCast, make_camera, make_cast, make_membership

DAY = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.fixture
def cast(db: None) -> TenantCast:
    return make_cast("acme")


def add_events(
    cast: TenantCast, count: int, *, start: datetime = DAY, step: timedelta = timedelta(seconds=1)
) -> None:
    """Many at once, of Ada's camera; the later the higher its position."""
    first = Event.objects.filter(tenant=cast.tenant).count() + 1
    Event.objects.bulk_create(
        Event(
            tenant=cast.tenant,
            device=cast.ada_camera,
            ring_account=cast.ada_account,
            request_id=f"many-{first + number}",
            position=first + number,
            event_type="motion_detected",
            sub_type="human",
            occurred_at=start + step * number,
            received_at=start + step * number,
        )
        for number in range(count)
    )
    TenantPosition.objects.update_or_create(tenant=cast.tenant, defaults={"last": first + count - 1})


def guest_of(cast: TenantCast, *, export: bool = False) -> Membership:
    """Somebody who was given the events of Ada's camera, and of nothing else."""
    guest = make_membership(cast.tenant, f"guest{int(export)}@{cast.tenant.slug}.example", Role.GUEST)
    Grant.objects.create(
        tenant=cast.tenant,
        membership=guest,
        device=cast.ada_camera,
        events=True,
        clips=export,
        export=export,
    )
    return guest


def bars_in(html: str) -> list[tuple[str, str]]:
    """Address and words of each bar that is a link."""
    found = re.findall(r'<a class="histogram-bar" href="([^"]*)" title="([^"]*)"', html)
    return [(unescape(href), title) for href, title in found]


def address_of(client: Client, href: str) -> str:
    answer = client.get(reverse("events:list", args=["acme"]) + href)
    assert answer.status_code == 200
    return answer.content.decode()


# --- filters ------------------------------------------------------------------------------------------------------


def test_several_devices_and_subtypes_let_through_what_is_of_any(cast: TenantCast):
    garden = make_camera(cast.ada_account, "Garden")
    front = happen(cast, "motion_detected", cast.ada_camera, sub_type="human")
    drive = happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(seconds=1), sub_type="vehicle")
    happen(cast, "motion_detected", garden, ago=timedelta(seconds=2), sub_type="package")
    press = happen(cast, "button_press", cast.ada_camera, ago=timedelta(seconds=3))
    client = as_member(cast.owner)

    def shown(query: str) -> list[str]:
        return rows_in(address_of(client, query))

    both = f"?device={cast.ada_camera.public_id}&device={cast.ben_camera.public_id}"
    assert shown(both) == ids(front, drive, press)
    assert shown("?subtype=person&subtype=vehicle") == ids(front, drive)
    assert shown(f"{both}&subtype=vehicle") == ids(drive)
    assert len(shown("?subtype=human&device=x")) == 4  # not words of the house: left out


def test_from_and_to_are_the_viewers_and_a_link_with_an_offset_is_everybodys(cast: TenantCast):
    event = happen(cast, "motion_detected", cast.ada_camera)
    Event.objects.update(occurred_at=datetime(2026, 3, 10, 11, 30, tzinfo=UTC))
    auckland = as_member(cast.owner)  # 13 hours ahead of UTC
    auckland.cookies["zone"] = "Pacific/Auckland"
    london = as_member(cast.owner)

    local = "?from=2026-03-11T00:00&to=2026-03-11T01:00"
    exact = "?from=2026-03-11T00:00%2B13:00&to=2026-03-11T01:00%2B13:00"
    assert rows_in(address_of(auckland, local)) == ids(event)
    assert rows_in(address_of(london, local)) == []
    assert rows_in(address_of(london, exact)) == ids(event)
    assert 'value="2026-03-10T11:00"' in address_of(london, exact)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?from=yesterday", "“From” could not be read as a time, so it was left out."),
        ("?to=2026-13-01T00:00", "“To” could not be read as a time, so it was left out."),
        ("?from=2026-03-11T00:00&to=2026-03-10T00:00", "“From” is not before “To”, so nothing can match."),
        ("?day=2026-03-10&from=2026-03-11T00:00", "on another day than the one chosen"),
    ],
)
def test_times_that_make_no_sense_are_told(cast: TenantCast, query: str, sentence: str):
    happen(cast, "motion_detected", cast.ada_camera)
    assert sentence in address_of(as_member(cast.owner), query)


@pytest.mark.parametrize(
    "query",
    [
        "?day=0001-01-01",
        "?day=9999-12-31",
        "?from=0001-01-01T00:00&to=9999-12-31T23:59",
        "?before=1-",
        "?before=99999999999999999999-1",
        "?after=9999999999999999999-9999999999999999999",
        "?before=²-1",
        "?device=&device=%00&kind=%00&subtype=%00&from=%00&after=%00",
    ],
)
def test_nonsense_in_the_address_is_left_out(cast: TenantCast, query: str):
    event = happen(cast, "motion_detected", cast.ada_camera)
    assert rows_in(address_of(as_member(cast.owner), query)) == ids(event)


def test_another_tenants_devices_and_another_customers_narrow_nothing(cast: TenantCast):
    other = make_cast("other")
    event = happen(cast, "motion_detected", cast.ada_camera)
    theirs = f"?device={other.ada_camera.public_id}&device={cast.ben_camera.public_id}"
    assert rows_in(address_of(as_member(cast.ada), theirs)) == ids(event)
    assert "Driveway" not in address_of(as_member(cast.ada), theirs)


# --- bars -----------------------------------------------------------------------------------------------------------


def test_each_bar_leads_to_what_it_counts(cast: TenantCast):
    noon = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    add_events(cast, 3, start=noon)
    add_events(cast, 2, start=noon + timedelta(hours=3))
    client = as_member(cast.owner)

    days = bars_in(address_of(client, "?kind=person"))
    assert [title.partition(", ")[2] for _, title in days] == ["5 events"]
    day_page = address_of(client, days[0][0])
    assert len(rows_in(day_page)) == 5 and "kind=person" in days[0][0]

    hours = bars_in(day_page)
    assert [title for _, title in hours] == ["12:00, 3 events", "15:00, 2 events"]
    hour_page = address_of(client, hours[1][0])
    assert len(rows_in(hour_page)) == 2
    assert "15:00, 2 events" in hour_page and 'aria-current="true"' in hour_page
    assert [title for _, title in bars_in(hour_page)] == [title for _, title in hours]
    assert bars_in(address_of(client, "?kind=doorbell")) == []


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)],
    ids=["spring", "autumn", "june"],
)
def test_a_day_has_the_hours_it_has(cast: TenantCast, day: str, hours: int):
    """Berlin's clocks: every moment of the day is in one bar, and only in one."""
    start = datetime.fromisoformat(f"{day}T00:00+00:00") - timedelta(hours=3)
    add_events(cast, 120, start=start, step=timedelta(minutes=15))
    client = as_member(cast.owner)
    client.cookies["zone"] = "Europe/Berlin"
    bars = bars_in(address_of(client, f"?day={day}"))
    assert len(bars) == hours
    assert {title.partition(", ")[2] for _, title in bars} == {"4 events"}
    assert [len(rows_in(address_of(client, href))) for href, _ in bars] == [4] * hours


def test_the_bars_count_nothing_that_is_not_the_viewers(cast: TenantCast):
    happen(cast, "motion_detected", cast.ada_camera)
    happen(cast, "motion_detected", cast.ben_camera)
    assert "2 in all" in page(cast.owner, "list")
    assert "1 in all" in page(cast.ben, "list")
    assert "1 in all" in page(guest_of(cast), "list")


# --- pages ----------------------------------------------------------------------------------------------------------


def test_pages_leave_nothing_out_though_more_arrives_and_moments_are_equal(cast: TenantCast):
    add_events(cast, 60)
    add_events(cast, 60, step=timedelta())  # one moment
    expected = [
        str(public_id)
        for public_id in Event.objects.order_by("-occurred_at", "-position").values_list(
            "public_id", flat=True
        )
    ]
    client = as_member(cast.owner)
    pages = [address_of(client, "")]
    while found := re.search(r'href="([^"]*)" rel="next"', pages[-1]):
        happen(cast, "motion_detected", cast.ada_camera)
        pages.append(address_of(client, unescape(found[1])))

    assert [row for html in pages for row in rows_in(html)] == expected
    assert [len(rows_in(html)) for html in pages] == [50, 50, 20]
    back = re.search(r'href="([^"]*)" rel="prev"', pages[2])
    assert back is not None
    assert rows_in(address_of(client, unescape(back[1]))) == expected[50:100]


def test_a_page_costs_the_same_queries_however_much_there_is(cast: TenantCast):
    client = as_member(cast.owner)
    addresses = ["", "?day=2026-03-10", f"?device={cast.ada_camera.public_id}&kind=person"]

    def counts() -> list[int]:
        counted = []
        for address in addresses:
            with CaptureQueriesContext(connection) as queries:
                address_of(client, address)
            counted.append(len(queries))
        return counted

    add_events(cast, 60)
    before = counts()
    add_events(cast, 1440)
    assert counts() == before and max(before) <= 14
    assert "More than 1000 events" in address_of(client, "")


# --- files ----------------------------------------------------------------------------------------------------------


def file_of(member: Membership, ending: str, query: str = "", *, zone: str = "UTC") -> tuple[Any, str]:
    client = as_member(member)
    client.cookies["zone"] = zone
    answer: Any = client.get(reverse(f"events:export_{ending}", args=["acme"]) + query)
    assert answer.status_code == 200 and answer.streaming
    return answer, b"".join(answer.streaming_content).decode()


def table_of(member: Membership, query: str = "", **rest: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file_of(member, "csv", query, **rest)[1])))


def test_the_file_has_what_the_page_shows_and_all_its_pages(cast: TenantCast):
    add_events(cast, 70)
    press = happen(cast, "button_press", cast.ada_camera)
    happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(seconds=5), sub_type="vehicle")
    rows = table_of(cast.owner)
    assert [row["id"] for row in rows][:50] == rows_in(page(cast.owner, "list"))
    assert len(rows) == 72
    assert rows[0] | {"time": ""} == {
        "time": "",
        "what": "Someone at the front door",
        "kind": "Doorbell",
        "device": "Front Door",
        "home": "Ada",
        "event_type": "button_press",
        "sub_type": "",
        "id": str(press.public_id),
    }
    for query in (
        "?kind=vehicle",
        "?day=2026-03-10",
        f"?device={cast.ben_camera.public_id}",
        "?subtype=person",
    ):
        shown = rows_in(address_of(as_member(cast.owner), query))
        assert [row["id"] for row in table_of(cast.owner, query)][:50] == shown != []
        assert [row["id"] for row in json.loads(file_of(cast.owner, "json", query)[1])][:50] == shown


def test_a_file_without_a_row_is_still_a_file(cast: TenantCast):
    assert json.loads(file_of(cast.owner, "json")[1]) == []
    assert file_of(cast.owner, "csv")[1].startswith("time,what,kind,device")


def test_times_carry_the_viewers_offset_and_the_name_says_whose_and_when(cast: TenantCast):
    add_events(cast, 1)
    query = "?from=2026-03-01T00:00&to=2026-03-20T00:00"
    answer, _ = file_of(cast.owner, "csv", query)
    assert table_of(cast.owner, zone="Asia/Kolkata")[0]["time"] == "2026-03-10T05:30:00.000+05:30"
    assert 'filename="events-acme-2026-03-01-to-2026-03-20.csv"' in answer["Content-Disposition"]
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx"])
def test_a_device_is_no_formula_in_a_spreadsheet(cast: TenantCast, name: str):
    cast.ada_camera.name = name
    cast.ada_camera.save()
    happen(cast, "device_offline", cast.ada_camera)
    row = table_of(cast.owner)[0]
    assert row["device"] == f"'{name}"
    assert row["what"][:1] not in "=+-@\t"


def test_who_may_take_out_what(cast: TenantCast):
    adas = happen(cast, "motion_detected", cast.ada_camera)
    bens = happen(cast, "motion_detected", cast.ben_camera, ago=timedelta(seconds=1))

    assert [row["id"] for row in table_of(cast.operator)] == ids(adas, bens)
    own = table_of(cast.ada)
    assert [row["id"] for row in own] == ids(adas) and own[0]["home"] == ""
    assert [row["id"] for row in table_of(guest_of(cast, export=True))] == ids(adas)

    without = guest_of(cast)
    address = reverse("events:export_csv", args=["acme"])
    refused = as_member(without).get(address)
    assert refused.status_code == 403 and "not download them" in refused.content.decode()
    assert address not in page(without, "list") and address in page(cast.ada, "list")
    other = make_cast("other")
    assert as_member(other.owner).get(address).status_code == 404


def test_what_may_be_seen_but_not_taken_out_is_not_in_the_file(cast: TenantCast):
    adas = happen(cast, "motion_detected", cast.ada_camera)
    bens = happen(cast, "motion_detected", cast.ben_camera)
    guest = guest_of(cast, export=True)
    Grant.objects.create(tenant=cast.tenant, membership=guest, device=cast.ben_camera, events=True)
    # May be taken out, but not seen: clips are not events.
    garden = make_camera(cast.ben_account, "Garden")
    happen(cast, "motion_detected", garden)
    Grant.objects.create(tenant=cast.tenant, membership=guest, device=garden, clips=True, export=True)

    assert set(rows_in(page(guest, "list"))) == set(ids(adas, bens))
    assert [row["id"] for row in table_of(guest)] == ids(adas)


def test_each_file_is_one_line_in_the_activity(cast: TenantCast):
    happen(cast, "motion_detected", cast.ada_camera)
    file_of(cast.owner, "csv")
    file_of(cast.owner, "json")
    as_member(cast.owner).head(reverse("events:export_csv", args=["acme"]))
    entries = AuditEntry.objects.filter(action="events.exported").order_by("pk")
    assert [entry.detail for entry in entries] == [{"format": "csv"}, {"format": "json"}]
    activity = as_member(cast.owner).get(reverse("accounts:activity", args=["acme"])).content.decode()
    assert "took out a list of events" in activity.lower() and "as JSON" in activity


def test_a_long_file_is_read_a_batch_at_a_time_as_it_is_sent(cast: TenantCast):
    add_events(cast, 2 * BATCH + 1)
    client = as_member(cast.owner)
    answer: Any = client.get(reverse("events:export_csv", args=["acme"]))
    pieces = iter(answer.streaming_content)
    next(pieces)
    with CaptureQueriesContext(connection) as queries:
        first = next(pieces)
    assert len(queries) == 1 and first.count(b"\r\n") == BATCH
    # What happens meanwhile is on top, where the file has been already.
    happen(cast, "button_press", cast.ada_camera)
    rest = b"".join(pieces)
    assert rest.count(b"\r\n") == BATCH + 1 and b"button_press" not in rest


@pytest.mark.django_db(transaction=True)
async def test_a_server_sends_the_first_batch_before_it_reads_the_second(cast: TenantCast):
    """Django would make all of a file before it sends any, were it not read in threads."""
    await sync_to_async(add_events)(cast, 2 * BATCH)
    client = AsyncClient()
    await client.aforce_login(cast.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    answer: Any = await client.get(reverse("events:export_csv", args=["acme"]))
    assert answer.is_async
    pieces = [piece async for piece in answer.streaming_content]
    assert [piece.count(b"\r\n") for piece in pieces] == [1, BATCH, BATCH]
