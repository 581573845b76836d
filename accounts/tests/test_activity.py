"""The activity: everybody reads what concerns them, admins all of the company's, in words."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.test import Client

import pytest

from accounts.activity import known_actions
from accounts.audit import audit, chain, verify_exported
from accounts.models import AuditEntry, AuditPerson
from accounts.tests.data_helpers import fill, sign_in
from media.models import Clip
from tests.support.cast import PASSWORD, TenantCast, make_cast

pytestmark = pytest.mark.django_db

PAGE = "/t/acme/settings/activity/"


@pytest.fixture
def cast() -> TenantCast:
    cast = make_cast()
    fill(cast, cast.ada_account, cast.ada_camera, count=1)
    fill(cast, cast.ben_account, cast.ben_camera, count=1)
    chain(cast.tenant.pk)
    return cast


def client_of(email: str) -> Client:
    client = Client()
    client.login(username=email, password=PASSWORD)
    return client


def text_of(client: Client, **filters: str) -> str:
    answer = client.get(PAGE, filters)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_customer_reads_who_watched_their_camera_and_how_long(cast: TenantCast):
    text = text_of(client_of("ada@acme.example"))

    assert "Watched Front Door live" in text and "for 12 s, the viewer closed it" in text
    assert "operator@acme.example" in text
    assert "Driveway" not in text and "ben@acme.example" not in text


def test_an_operator_reads_what_they_did_and_not_what_others_do(cast: TenantCast):
    audit(
        tenant=cast.tenant,
        actor=cast.owner.user,
        action="ring_app.changed",
        subject="ring_app x",
        fields=["client_id"],
    )

    text = text_of(client_of("operator@acme.example"))

    assert "Front Door" in text and "Driveway" in text and "You" in text
    assert "credentials of" not in text.partition("<tbody>")[2]


def test_an_admin_reads_everything_and_narrows_it(cast: TenantCast):
    owner = client_of("owner@acme.example")
    ada = AuditPerson.objects.get(user=cast.ada.user)

    everything, of_ada = text_of(owner), text_of(owner, person=str(ada.public_id))

    assert "Front Door" in everything and "Driveway" in everything
    assert "Front Door" in of_ada and "Driveway" not in of_ada
    assert "Nothing matches" in text_of(owner, action="api_token.revoked")
    assert "Nothing matches" in text_of(owner, until="2001-01-01")
    assert "Front Door" in text_of(owner, person="nonsense", since="nonsense")


def test_another_companys_entries_are_nowhere(cast: TenantCast):
    other = make_cast("other")
    fill(other, other.ada_account, other.ada_camera, count=1)

    assert "@other.example" not in text_of(client_of("owner@acme.example"))
    assert client_of("owner@other.example").get(PAGE).status_code == 404


def test_it_is_paged(cast: TenantCast):
    for number in range(60):
        audit(tenant=cast.tenant, actor=cast.ada.user, action="clip.deleted", subject=f"clip {number}")
    ada = client_of("ada@acme.example")

    assert "1–50 of 61" in text_of(ada)
    assert "51–61 of 61" in text_of(ada, page="2")


def test_a_long_page_takes_no_more_queries(cast: TenantCast, django_assert_max_num_queries: Any):
    for _ in range(40):
        audit(
            tenant=cast.tenant,
            actor=cast.operator.user,
            action="live.ended",
            subject=f"device {cast.ada_camera.public_id}",
        )
    owner = client_of("owner@acme.example")

    with django_assert_max_num_queries(20):
        owner.get(PAGE)


def test_it_is_taken_out_as_a_table_and_with_its_hashes(cast: TenantCast):
    owner = client_of("owner@acme.example")

    table = b"".join(owner.get("/t/acme/settings/activity.csv").streaming_content).decode()  # type: ignore[attr-defined]
    document = b"".join(owner.get("/t/acme/settings/activity.json").streaming_content).decode()  # type: ignore[attr-defined]

    lines = list(csv.reader(io.StringIO(table)))
    assert lines[0][1] == "who" and any("watched Front Door live" in line for line in lines)
    entries = json.loads(document)
    assert list(verify_exported(entries)) == []
    entries[0]["action"] = "changed"
    assert list(verify_exported(entries)) != []
    assert AuditEntry.objects.filter(action="audit.exported").count() == 2


def test_a_name_is_no_formula_in_a_spreadsheet(cast: TenantCast):
    cast.operator.user.first_name = "=HYPERLINK(1)"
    cast.operator.user.save()
    cast.ada_camera.save()

    answer: Any = client_of("owner@acme.example").get("/t/acme/settings/activity.csv")
    table = b"".join(answer.streaming_content).decode()

    assert "'=HYPERLINK" in table and ",=HYPERLINK" not in table


def test_playing_a_clip_is_one_line_and_downloading_it_another(cast: TenantCast):
    clip = Clip.objects.filter(device=cast.ada_camera).get()
    operator = client_of("operator@acme.example")
    address = f"/t/acme/clips/{clip.public_id}/video"

    for _ in range(3):
        operator.get(address, headers={"Range": "bytes=0-"})
    operator.get(address, headers={"Range": "bytes=3-"})
    operator.get(address, {"download": ""})

    trail = AuditEntry.objects.filter(subject=f"clip {clip.public_id}").order_by("pk")
    assert list(trail.values_list("action", flat=True)) == ["clip.seen", "clip.downloaded"]
    text = text_of(client_of("ada@acme.example"))
    assert "Played a clip of Front Door" in text and "Downloaded a clip of Front Door" in text


def test_changes_to_signing_in_are_written_down_without_the_address(cast: TenantCast):
    ada = Client()
    sign_in(ada, "ada@acme.example")

    ada.post("/accounts/email/", {"action_add": "", "email": "ada.new@customer.example"})
    changed = {
        "oldpassword": PASSWORD,
        "password1": "quite another lamp 77",
        "password2": "quite another lamp 77",
    }
    ada.post("/accounts/password/change/", changed)

    entries = AuditEntry.objects.filter(action__startswith="sign_in.")
    assert {entry.action for entry in entries} >= {"sign_in.password_changed"}
    assert all("@" not in json.dumps(entry.detail) for entry in entries)


def test_somebody_erased_is_nobody_in_the_activity(cast: TenantCast):
    AuditPerson.objects.filter(user=cast.operator.user).delete()

    text = text_of(client_of("ada@acme.example"))

    assert "Somebody whose data was deleted" in text and "operator@acme.example" not in text


def test_what_is_gone_is_called_by_its_kind(cast: TenantCast):
    audit(
        tenant=cast.tenant,
        actor=None,
        action="live.ended",
        subject="device 00000000-0000-4000-8000-000000000000",
        about_person=cast.ada.user,
    )

    assert "Watched device live" in text_of(client_of("ada@acme.example"))


def test_every_action_that_is_written_down_has_words():
    """Else it reads `Grant given grant`, and no filter finds it."""
    written = set[str]()
    own = [
        Path(config.path)
        for config in apps.get_app_configs()
        if Path(config.path).parent == settings.BASE_DIR
    ]
    for path in (path for folder in own for path in folder.rglob("*.py") if "tests" not in path.parts):
        for line in re.findall(r"\baction ?= ?(.*)", path.read_text()):
            written.update(re.findall(r'"([a-z_]+\.[a-z_]+)"', line))
    assert {"grant.given", "member.left", "member.removed"} <= written
    assert written - {action for action, _ in known_actions()} == set()
