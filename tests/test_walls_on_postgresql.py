"""PostgreSQL itself refuses another tenant's rows, however they are asked for. Run by `make test-services`."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.db import DatabaseError, ProgrammingError, connection, connections, transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.tasks import task
from django.test import AsyncClient, Client
from django.urls import include, path

import psycopg
import pytest
from django_tasks_db.models import DBTaskResult

from accounts.access import TenantRequest, roles_allowed
from accounts.models import Membership, RingAccount, Role
from devices.models import Device
from portal.postgresql import policies
from portal.postgresql.base import DatabaseWrapper
from portal.walls import across_tenants, enter_tenant_of, tenant_scope, unit_of_work
from tests.support.cast import make_cast
from tests.support.signin import staff_client
from tests.test_isolation import World
from tests.test_tenant_models import MODELS, WITHOUT_TENANT

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted(model._meta.db_table for model in MODELS if model not in WITHOUT_TENANT)
REFUSED = "row-level security policy"

pytestmark = [pytest.mark.services, pytest.mark.django_db]


@pytest.fixture
def ours() -> World:
    return World(make_cast("acme"), "Ownish")


@pytest.fixture
def theirs(ours: World) -> World:
    return World(make_cast("victim"), "Canaria")


def raw(sql: str, *params: Any, using: Any = connection) -> list[Any]:
    with using.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall()) if cursor.description else []


def tenants_in(table: str, using: Any = connection) -> set[int]:
    return {tenant for (tenant,) in raw(f'SELECT tenant_id FROM "{table}"', using=using)}  # noqa: S608


# --- every table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_raw_select_sees_the_tenant_that_was_entered_and_nothing_without_one(
    ours: World, theirs: World, table: str
):
    us, them = ours.cast.tenant.pk, theirs.cast.tenant.pk
    with across_tenants("what there really is"):
        there = tenants_in(table)

    with unit_of_work():
        assert tenants_in(table) == set()
    for entered in ({us}, {them}, {us, them}):
        with tenant_scope(*entered):
            assert tenants_in(table) == there & entered


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_another_tenant_cannot_be_made_changed_moved_or_deleted(
    ours: World, theirs: World, table: str
):
    us, them = ours.cast.tenant.pk, theirs.cast.tenant.pk
    with across_tenants("what there really is"):
        before = raw(f'SELECT * FROM "{table}" WHERE tenant_id = %s', them)  # noqa: S608

    for scope in (tenant_scope(us), unit_of_work()):
        with scope:
            if before:
                with pytest.raises(ProgrammingError, match=REFUSED), transaction.atomic():
                    raw(
                        f'INSERT INTO "{table}" SELECT (jsonb_populate_record(NULL::"{table}", %s::jsonb)).*',
                        _as_json(table, them),
                    )
            touch = f'UPDATE "{table}" SET tenant_id = tenant_id WHERE tenant_id = %s RETURNING 1'  # noqa: S608
            assert raw(touch, them) == []
            assert raw(f'DELETE FROM "{table}" WHERE tenant_id = %s RETURNING 1', them) == []  # noqa: S608
    with tenant_scope(us):
        if tenants_in(table):
            with pytest.raises(DatabaseError, match=f"{REFUSED}|append only"), transaction.atomic():
                raw(f'UPDATE "{table}" SET tenant_id = %s', them)  # noqa: S608

    with across_tenants("what there really is"):
        assert raw(f'SELECT * FROM "{table}" WHERE tenant_id = %s', them) == before  # noqa: S608


def _as_json(table: str, tenant: int) -> str:
    with across_tenants("a row to copy"):
        [[row]] = raw(f'SELECT to_jsonb(t)::text FROM "{table}" t WHERE tenant_id = %s LIMIT 1', tenant)  # noqa: S608
    return str(row)


def test_the_two_worlds_fill_most_tables(ours: World, theirs: World):
    filled = [table for table in TABLES if len(tenants_in(table)) == 2]

    assert len(filled) >= 10, filled


def test_every_table_of_a_tenant_has_its_policy() -> None:
    [(login, role)] = raw("SELECT session_user::text, session_user || '_tenant'")
    found = raw(
        "SELECT tablename::text, roles::text[], cmd FROM pg_policies JOIN pg_class ON relname = tablename "
        "WHERE relrowsecurity AND policyname = %s",
        policies.POLICY,
    )

    assert {table for table, _, _ in found} == policies.walls().keys() >= set(TABLES)
    assert all((roles, command) == ([role], "ALL") for _, roles, command in found)
    assert raw(
        "SELECT rolsuper, rolbypassrls, rolcanlogin, pg_has_role(rolname, %s, 'MEMBER') "
        "FROM pg_roles WHERE rolname = %s",
        login,
        role,
    ) == [(False, False, False, False)]


def test_the_walls_are_mended():
    """What somebody took down by hand is back after the next migrate."""
    with transaction.atomic():
        raw("ALTER TABLE devices_device DISABLE ROW LEVEL SECURITY")
        raw("DROP POLICY tenant_wall ON media_clip")
        raw(f"REVOKE SELECT ON events_event FROM {tenant_role()}")  # noqa: S608
        raw("ALTER TABLE accounts_user ENABLE ROW LEVEL SECURITY")
        assert policies.holes(using="default") == ["devices_device", "events_event", "media_clip"]
        policies.build_walls(using="default")

        assert policies.holes(using="default") == []
        test_every_table_of_a_tenant_has_its_policy()
        assert raw("SELECT relrowsecurity FROM pg_class WHERE relname = 'accounts_user'") == [(False,)]
        with unit_of_work():
            assert raw("SELECT * FROM events_event") == []
        transaction.set_rollback(True)


# --- the connection ---------------------------------------------------------------------------------------------------


def tenant_role() -> str:
    wrapper = connections["default"]
    assert isinstance(wrapper, DatabaseWrapper)
    return wrapper.tenant_role


def whoami(using: Any = connection) -> str:
    [[role]] = raw("SELECT current_user::text", using=using)
    return str(role)


def test_a_rollback_does_not_bring_the_scope_before_it_back(ours: World, theirs: World):
    us, them = ours.cast.tenant, theirs.cast.tenant
    with tenant_scope(us), transaction.atomic():
        assert tenants_in("devices_device") == {us.pk}
        with pytest.raises(RuntimeError), transaction.atomic(), tenant_scope(them):
            assert tenants_in("devices_device") == {them.pk}
            raise RuntimeError
        assert tenants_in("devices_device") == {us.pk}
        with pytest.raises(DatabaseError), transaction.atomic(), across_tenants("to fail at once"):
            raw("SELECT 1 / 0")
        assert tenants_in("devices_device") == {us.pk}
        with unit_of_work():
            assert tenants_in("devices_device") == set()


@pytest.mark.django_db(transaction=True)
def test_no_error_leaves_a_connection_in_another_scope(ours: World, theirs: World):
    us, them = ours.cast.tenant, theirs.cast.tenant
    with tenant_scope(us):
        with pytest.raises(DatabaseError), across_tenants("to fail at once"):
            raw("SELECT 1 / 0")
        assert tenants_in("devices_device") == {us.pk}
        with pytest.raises(DatabaseError), transaction.atomic(), tenant_scope(them):
            raw("SELECT 1 / 0")
        assert tenants_in("devices_device") == {us.pk}
        with (
            transaction.atomic(),
            pytest.raises(DatabaseError),
            across_tenants("to fail, and to commit nevertheless"),
        ):
            raw("SELECT 1 / 0")
        assert tenants_in("devices_device") == {us.pk}
    with unit_of_work():
        assert tenants_in("devices_device") == set()


def test_server_side_cursors_and_many_rows_at_once_keep_to_the_scope(ours: World, theirs: World):
    us, them = ours.cast.tenant.pk, theirs.cast.tenant.pk
    rows = Device.objects.order_by("pk")
    with tenant_scope(us), transaction.atomic():
        cursor = rows.iterator(chunk_size=1)
        first = next(cursor)
        with tenant_scope(them):
            assert {device.tenant_id for device in rows} == {them}
        assert {first.tenant_id, *(device.tenant_id for device in cursor)} == {us}
    with unit_of_work():
        assert list(rows.iterator()) == []
        with (
            connection.cursor() as many,
            pytest.raises(ProgrammingError, match=REFUSED),
            transaction.atomic(),
        ):
            many.executemany("INSERT INTO events_tenantposition VALUES (%s, 0, 0)", [[us], [them]])


def test_writes_count_their_rows_although_the_scope_changes_with_them(ours: World):
    with unit_of_work(), tenant_scope(ours.cast.tenant):
        assert Device.objects.update(name="Renamed") == 2
    with unit_of_work(), tenant_scope(ours.cast.tenant), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM devices_device")
        assert cursor.rowcount == 2
        assert [column.name for column in cursor.description] == ["name"]
        assert cursor.fetchall() == [("Renamed",)] * 2
        assert not cursor.nextset()


@contextmanager
def pooled() -> Iterator[DatabaseWrapper]:
    """A connection as one thread of the web server has it: out of a pool that holds a single one."""
    options = {**connection.settings_dict["OPTIONS"], "pool": {"min_size": 1, "max_size": 1, "timeout": 5}}
    wrapper = DatabaseWrapper({**connection.settings_dict, "OPTIONS": options}, alias="pooled")
    try:
        yield wrapper
    finally:
        wrapper.close()


@pytest.mark.django_db(transaction=True)
def test_the_pool_hands_no_scope_on(ours: World, theirs: World):
    us, them = ours.cast.tenant, theirs.cast.tenant
    sessions = set()

    def visit(expected: set[int]) -> None:
        with pooled() as mine:
            assert tenants_in("devices_device", mine) == expected
            sessions.update(raw("SELECT pg_backend_pid()", using=mine))

    try:
        for _ in range(2):
            with tenant_scope(us):
                visit({us.pk})
            with unit_of_work():
                visit(set())
            with across_tenants("to leave the owner's role behind"):
                visit({us.pk, them.pk})
            with unit_of_work():
                visit(set())
            with pytest.raises(DatabaseError), across_tenants("to leave an error behind"), pooled() as mine:
                mine.set_autocommit(False)
                raw("SELECT 1 / 0", using=mine)
            with tenant_scope(them):
                visit({them.pk})
    finally:
        with pooled() as mine:
            mine.close_pool()
    assert len(sessions) == 1


# --- requests, tasks, staff -------------------------------------------------------------------------------------------


@roles_allowed(*Role)
def forgetful(request: TenantRequest, tenant: str) -> HttpResponseBase:
    """A view that forgot its filter, and asks again after another query of everybody's memberships."""
    first = list(Device.objects.values_list("tenant", flat=True))
    people = Membership.objects.count()
    return JsonResponse(
        {"devices": [*first, *Device.objects.values_list("tenant", flat=True)], "people": people}
    )


def stranger(request: HttpRequest) -> HttpResponseBase:
    """A view that asks nobody who they are."""
    return JsonResponse({"devices": Device.objects.count(), "role": whoami()})


urlpatterns = [
    path("t/<slug:tenant>/forgetful/", forgetful),
    path("stranger/", stranger),
    path("", include("portal.urls")),
]


def test_a_view_that_forgot_its_filter_shows_no_other_tenants_rows(ours: World, theirs: World, settings):
    settings.ROOT_URLCONF = __name__
    for world in (ours, theirs):
        client = Client()
        client.force_login(world.cast.owner.user)
        seen = client.get(f"/t/{world.cast.tenant.slug}/forgetful/").json()
        assert seen == {"devices": [world.cast.tenant.pk] * 4, "people": 4}
    assert client.get("/stranger/").json() == {"devices": 0, "role": tenant_role()}


@pytest.mark.django_db(transaction=True)
async def test_concurrent_requests_of_two_tenants_keep_apart(settings):
    settings.ROOT_URLCONF = __name__
    worlds = await asyncio.to_thread(lambda: [World(make_cast(slug), slug) for slug in ("acme", "victim")])

    async def ask(world: World) -> None:
        client = AsyncClient()
        await client.aforce_login(world.cast.owner.user)
        for _ in range(5):
            seen = (await client.get(f"/t/{world.cast.tenant.slug}/forgetful/")).json()
            assert seen == {"devices": [world.cast.tenant.pk] * 4, "people": 4}

    await asyncio.gather(*(ask(world) for world in worlds * 4))


@task
def forgetful_task(account_id: int) -> list[list[int]]:
    """A task that forgot its filter: the tenants it sees before and after it knows whose row it works on."""
    before = list(Device.objects.values_list("tenant", flat=True))
    enter_tenant_of(RingAccount, account_id)
    return [before, list(Device.objects.values_list("tenant", flat=True))]


@pytest.mark.django_db(transaction=True)
def test_a_task_that_forgot_its_filter_sees_no_other_tenants_rows(ours: World, theirs: World, run_tasks):
    result = forgetful_task.enqueue(ours.cast.ada_account.pk)

    run_tasks()

    assert DBTaskResult.objects.get(pk=result.id).return_value == [[], [ours.cast.tenant.pk] * 2]


def test_staff_see_every_tenant(ours: World, theirs: World, django_user_model):
    staff = django_user_model.objects.create_superuser("staff@portal.example", "correct horse battery staple")
    page = staff_client(staff).get("/admin/devices/device/")

    assert "Ownish camera" in page.text
    assert "Canaria camera" in page.text


# --- setting it up ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_login() -> Iterator[tuple[str, str]]:
    """(name, DATABASE_URL) of a role that may only log in, and of the empty database it owns."""
    server = os.environ["DATABASE_URL"]
    name = f"walls_{secrets.token_hex(4)}"
    parts = urlsplit(server)
    password = secrets.token_hex(8)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{name}:{password}@{host}", path=f"/{name}"))
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        try:
            yield name, url
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            admin.execute(f"DROP ROLE IF EXISTS {name}_tenant")
            admin.execute(f"DROP ROLE {name}")


def manage(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_login_that_may_not_make_roles_is_told_what_to_have_run(plain_login: tuple[str, str]):
    name, url = plain_login

    refused = manage(url, "migrate", "--verbosity", "0")

    assert refused.returncode == 1
    assert f'CREATE ROLE "{name}_tenant" NOLOGIN; GRANT "{name}_tenant" TO "{name}";' in refused.stderr
    with psycopg.connect(url) as owner:
        assert owner.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f'CREATE ROLE "{name}_tenant" NOLOGIN; GRANT "{name}_tenant" TO "{name}"')
    done = manage(url, "migrate", "--verbosity", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert manage(url, "migrate", "--check").returncode == 0
    look = "from portal.walls import *; from accounts.models import *; t = Tenant.objects.create(slug='a', name='A'); "
    look += "ApiToken.issue(tenant=t, name='x', scopes=[]); print(ApiToken.objects.count(), end=' ')\n"
    look += "with tenant_scope(t): print(ApiToken.objects.count(), end=' ')\n"
    look += "with unit_of_work(): print(ApiToken.objects.count())"
    assert manage(url, "shell", "--verbosity", "0", "-c", look).stdout == "1 1 0\n"
