"""Taking everything out: one archive, whole and checked, for the person who asked and nobody else."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core import mail
from django.test import Client
from django.utils import timezone

import pytest
from asgiref.sync import async_to_sync

from accounts import exports
from accounts.audit import chain, verify_exported
from accounts.data_tasks import build_export, sweep_data
from accounts.models import AuditEntry, DataExport
from accounts.tests.data_helpers import fill, sign_in, stored_files
from portal.walls import unit_of_work
from tests.support.cast import TenantCast, make_cast

pytestmark = pytest.mark.django_db

ASK = "/t/acme/settings/data/export/"


@pytest.fixture
def cast() -> TenantCast:
    cast = make_cast()
    fill(cast, cast.ada_account, cast.ada_camera)
    fill(cast, cast.ben_account, cast.ben_camera)
    chain(cast.tenant.pk)
    return cast


def client_of(email: str) -> Client:
    client = Client()
    sign_in(client, email)
    return client


def body_of(answer: Any) -> bytes:
    """The bytes of an answer that is streamed piece by piece."""

    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(read)()


def build() -> DataExport:
    """What a worker does."""
    export = DataExport.objects.latest("pk")
    with unit_of_work():
        build_export.func(export.pk)
    export.refresh_from_db()
    return export


def archive_of(export: DataExport) -> zipfile.ZipFile:
    with export.file.open("rb") as content:
        return zipfile.ZipFile(io.BytesIO(content.read()))


def rows(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(archive.read(f"{name}.json"))
    return found


def test_a_person_takes_out_everything_about_them_and_nothing_else(cast: TenantCast):
    ada = client_of("ada@acme.example")

    assert ada.post(ASK, {"kind": "person"}).status_code == 302
    archive = archive_of(build())

    assert archive.testzip() is None
    assert [row["email"] for row in rows(archive, "profile")] == ["ada@acme.example"]
    assert [row["name"] for row in rows(archive, "devices")] == ["Front Door"]
    assert len(rows(archive, "events")) == 3 and '"device"' in rows(archive, "events")[0]["as_received"]
    clips = rows(archive, "clips")
    assert len(clips) == 3
    assert archive.read(clips[0]["file"]) == b"video 1" and archive.read(clips[0]["poster"]) == b"poster"
    assert {row["viewer"] for row in rows(archive, "live_sessions")} == {"somebody else"}
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    for secret in ("access-ava1", "refresh-ava1", "BEN1", "ben@acme", "operator@acme", "Driveway"):
        assert secret not in everything
    assert list(verify_exported(rows(archive, "activity")[:1])) == []


def test_the_manifest_names_every_file_with_its_hash(cast: TenantCast):
    client_of("ada@acme.example").post(ASK, {"kind": "person"})

    archive = archive_of(build())

    manifest = json.loads(archive.read("manifest.json"))
    assert {entry["path"] for entry in manifest["files"]} == set(archive.namelist()) - {"manifest.json"}
    for entry in manifest["files"]:
        content = archive.read(entry["path"])
        assert (entry["size_bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_an_owner_takes_out_the_whole_company(cast: TenantCast):
    owner = client_of("owner@acme.example")

    owner.post(ASK, {"kind": "tenant"})
    archive = archive_of(build())

    assert {row["name"] for row in rows(archive, "devices")} == {"Front Door", "Driveway"}
    assert len(rows(archive, "clips")) == 6
    assert {row["user"] for row in rows(archive, "memberships")} == {
        f"{name}@acme.example" for name in ("owner", "operator", "ada", "ben")
    }
    assert list(verify_exported(rows(archive, "activity"))) == []
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    for secret in ("acme-secret", "acme-key", "access-ava1", "refresh-ava1"):
        assert secret not in everything


def test_it_is_downloaded_in_parts_by_its_person_only(cast: TenantCast):
    ada = client_of("ada@acme.example")
    ada.post(ASK, {"kind": "person"})
    export = build()
    address = f"{ASK}{export.public_id}/"

    whole = ada.get(address)
    content = body_of(whole)
    part = ada.get(address, headers={"Range": "bytes=10-19"})

    assert hashlib.sha256(content).hexdigest() == export.sha256 and len(content) == export.size_bytes
    assert part.status_code == 206
    assert body_of(part) == content[10:20]
    for other in ("ben", "owner", "operator"):
        assert client_of(f"{other}@acme.example").get(address).status_code == 404
    assert AuditEntry.objects.filter(action="export.downloaded").count() == 1


def test_a_download_asks_who_it_is(cast: TenantCast):
    client_of("ada@acme.example").post(ASK, {"kind": "person"})
    export = build()
    client = Client()
    client.force_login(cast.ada.user, backend="django.contrib.auth.backends.ModelBackend")

    answer = client.get(f"{ASK}{export.public_id}/")

    assert answer.status_code == 302 and "/accounts/reauthenticate/" in answer["Location"]


def test_a_mail_says_that_it_is_ready_and_the_page_shows_it(
    cast: TenantCast, django_capture_on_commit_callbacks: Callable[..., Any]
):
    ada = client_of("ada@acme.example")
    ada.post(ASK, {"kind": "person"})
    assert "Waiting for its turn" in ada.get("/t/acme/settings/data/").content.decode()

    with django_capture_on_commit_callbacks(execute=True):
        export = build()

    assert export.sha256 in ada.get("/t/acme/settings/data/").content.decode()
    [message] = [sent for sent in mail.outbox if "is ready" in sent.subject]
    assert message.to == ["ada@acme.example"] and "/t/acme/settings/data/" in message.body
    assert str(export.public_id) not in message.body


def test_one_is_built_at_a_time(cast: TenantCast):
    ada = client_of("ada@acme.example")

    ada.post(ASK, {"kind": "person"})
    answer = ada.post(ASK, {"kind": "person"}, follow=True)

    assert "already" in answer.content.decode()
    assert DataExport.objects.count() == 1


def test_the_file_is_really_deleted_when_its_time_is_over(cast: TenantCast):
    client_of("ada@acme.example").post(ASK, {"kind": "person"})
    export = build()
    stored = Path(export.file.path)
    assert stored.exists()

    DataExport.objects.update(expires_at=timezone.now() - timedelta(1), next_attempt_at=timezone.now())
    build_export.func(export.pk)

    assert not stored.exists()
    export.refresh_from_db()
    assert (export.state, export.next_attempt_at) == ("gone", None)


class Died(BaseException):
    pass


@pytest.mark.parametrize("where", ["_add_file", "_keep", "_sha256_of"])
def test_a_worker_that_dies_leaves_nothing_and_the_next_one_builds_it(
    cast: TenantCast, where: str, monkeypatch: pytest.MonkeyPatch
):
    client_of("ada@acme.example").post(ASK, {"kind": "person"})
    before = stored_files()

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(exports, where, die)
        with pytest.raises(Died):
            build()
    DataExport.objects.update(next_attempt_at=timezone.now())
    export = build()

    assert export.state == "ready" and archive_of(export).testzip() is None
    assert len(stored_files()) == len(before) + 1


def test_an_export_deleted_while_it_is_built_is_thrown_away(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    client_of("ada@acme.example").post(ASK, {"kind": "person"})
    before = stored_files()
    original = exports._sha256_of

    def deleted_meanwhile(path: Path) -> str:
        DataExport.objects.all().delete()
        return original(path)

    monkeypatch.setattr(exports, "_sha256_of", deleted_meanwhile)
    build_export.func(DataExport.objects.get().pk)

    assert stored_files() == before


def test_the_sweep_finds_what_lost_its_task(cast: TenantCast):
    from django_tasks_db.models import DBTaskResult

    client_of("ada@acme.example").post(ASK, {"kind": "person"})
    DBTaskResult.objects.all().delete()

    sweep_data.func()

    assert DBTaskResult.objects.filter(task_path=build_export.module_path).count() == 1


def test_ones_own_profile_is_had_without_any_company(cast: TenantCast):
    document = client_of("ada@acme.example").get("/accounts/data/profile.json").json()

    assert document["email"] == "ada@acme.example" and document["signed_in_at"]


def test_nobody_fills_the_disk_with_copies(cast: TenantCast, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accounts.data_views.EXPORTS_A_DAY", 2)
    ada = client_of("ada@acme.example")
    for _ in range(3):
        answer = ada.post(ASK, follow=True)
        if DataExport.objects.filter(state=DataExport.State.BUILDING).exists():
            build()

    assert DataExport.objects.count() == 2
    assert "often enough for today" in answer.content.decode()
