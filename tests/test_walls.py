"""The scope: whose rows the running code may touch. What PostgreSQL makes of it: test_walls_on_postgresql.py."""

import ast
import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from django.apps import apps
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.tasks import task
from django.test import Client

import pytest
from asgiref.sync import sync_to_async
from django_tasks_db.models import DBTaskResult

from accounts.models import Membership, RingAccount, Tenant
from portal import walls
from portal.postgresql import policies
from portal.walls import (
    NOBODY,
    Scope,
    across_tenants,
    current_scope,
    enter_tenant,
    enter_tenant_of,
    tenant_scope,
    unit_of_work,
)
from tests.support.cast import make_cast
from tests.test_tenant_models import MODELS, OURS, WITHOUT_TENANT

ROOT = Path(__file__).resolve().parent.parent
SEE_ALL = {"across_tenants", "enter_all_tenants"}


def of(*tenants: int) -> Scope:
    return Scope(frozenset(tenants))


# --- every place that sees all tenants ----------------------------------------------------------------------------


def uses() -> Iterator[tuple[str, str]]:
    """(file, reason) of each call that opens every tenant's rows."""
    files = [ROOT / "manage.py", *(path for room in OURS for path in (ROOT / room).rglob("*.py"))]
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        if "/tests/" in name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in SEE_ALL:
                [reason] = node.args
                assert isinstance(reason, ast.Constant), f"{name}:{node.lineno}: give the reason as a literal"
                yield name, str(reason.value)


def test_every_place_that_sees_all_tenants_is_listed_with_its_reason():
    listed = re.findall(
        r"^\| `([\w/.]+\.py)` \| (.+) \|$", (ROOT / "docs" / "tenancy.md").read_text(), re.MULTILINE
    )

    found = set(uses())

    assert found == set(listed), "Bring the list at the end of docs/tenancy.md in line with the code."
    assert len(found) > 10
    assert all(len(reason.split()) > 3 for _, reason in found)


def test_a_reason_must_be_given():
    with pytest.raises(ValueError, match="Say why"), across_tenants(" "):
        pass


# --- which tables ---------------------------------------------------------------------------------------------------


def test_every_model_of_a_tenant_has_a_wall():
    walled = policies.walls()

    for model in MODELS:
        assert (model._meta.db_table in walled) == (model not in WITHOUT_TENANT), model
    assert walled["events_tenantposition"].startswith('"tenant_id" = ANY')


def test_what_connects_a_tenants_rows_has_a_wall_too():
    walled = policies.walls()

    for model in apps.get_models(include_auto_created=True):
        parents = [field.related_model for field in model._meta.concrete_fields if field.is_relation]
        if any(parent is not None and parent._meta.db_table in walled for parent in parents):
            assert model._meta.db_table in walled, f"{model} carries a tenant's data, and has no wall."


# --- the scope --------------------------------------------------------------------------------------------------------


def test_scopes_nest_and_end():
    with tenant_scope(1, 2):
        assert current_scope() == of(1, 2)
        with across_tenants("to see whether it ends"):
            assert current_scope().tenants is None
            with tenant_scope(3):
                assert current_scope() == of(3)
        with unit_of_work():
            assert current_scope() == NOBODY
            enter_tenant(4)
            assert current_scope() == of(4)
        assert current_scope() == of(1, 2)


def test_an_error_ends_a_scope():
    with tenant_scope(1):
        with pytest.raises(RuntimeError), across_tenants("to see whether it ends"):
            raise RuntimeError
        assert current_scope() == of(1)
        with pytest.raises(RuntimeError), tenant_scope(2):
            raise RuntimeError
        assert current_scope() == of(1)


def test_a_tenant_without_a_number_cannot_be_entered():
    with pytest.raises(ValueError, match="not saved"), tenant_scope(Tenant(slug="new")):
        pass


def test_a_new_thread_begins_with_nobodys_rows():
    seen: list[Scope] = []
    with tenant_scope(1):
        thread = threading.Thread(target=lambda: seen.append(current_scope()))
        thread.start()
        thread.join()

    assert seen == [NOBODY]


async def test_concurrent_requests_do_not_see_each_others_scope():
    gate = asyncio.Barrier(20)

    async def request(tenant: int) -> list[Scope]:
        with unit_of_work():
            await gate.wait()
            # What `roles_allowed` does: enter in a thread, go on here and in other threads.
            await sync_to_async(enter_tenant)(tenant)
            await gate.wait()
            return [
                current_scope(),
                await asyncio.to_thread(current_scope),
                await sync_to_async(current_scope)(),
                await sync_to_async(current_scope, thread_sensitive=False)(),
            ]

    async with asyncio.TaskGroup() as group:
        requests = [group.create_task(request(tenant)) for tenant in range(1, 21)]

    for tenant, one in enumerate(requests, start=1):
        assert one.result() == [of(tenant)] * 4


# --- units of work --------------------------------------------------------------------------------------------------


@task
def look_at_account(account_id: int) -> list[list[int]]:
    """What a task sees before and after it knows whose row it works on."""
    before = current_scope()
    enter_tenant_of(RingAccount, account_id)
    return [sorted(scope.tenants or [-1]) for scope in (before, current_scope())]


@pytest.mark.django_db(transaction=True)
def test_a_task_begins_with_nobodys_rows_and_leaves_nothing_behind(run_tasks):
    cast = make_cast()
    result = look_at_account.enqueue(cast.ada_account.pk)
    nowhere = look_at_account.enqueue(0)

    with tenant_scope(12345):
        run_tasks()
        assert current_scope() == of(12345)

    [seen, nothing] = [DBTaskResult.objects.get(pk=one.id).return_value for one in (result, nowhere)]
    assert seen == [[-1], [cast.tenant.pk]]
    assert nothing == [[-1], [-1]]


@task
def fail() -> None:
    enter_tenant(1)
    raise RuntimeError


@pytest.mark.django_db(transaction=True)
def test_a_task_that_fails_leaves_nothing_behind(run_tasks):
    fail.enqueue()

    with tenant_scope(12345):
        run_tasks()
        assert current_scope() == of(12345)


def test_an_end_without_a_beginning_is_nobodys():
    """django-tasks tells of the end of a task that could not even be loaded."""
    with tenant_scope(1):
        walls.end()
        assert current_scope() == NOBODY


@pytest.mark.django_db
def test_commands_say_themselves_whose_rows_they_are_about(monkeypatch, capsys):
    monkeypatch.setenv("RING_CLIENT_SECRET", "secret")
    monkeypatch.setenv("RING_SIGNING_KEY", "key")
    monkeypatch.setenv("MEMBER_PASSWORD", "correct horse battery staple")
    with unit_of_work():
        for _ in range(2):
            call_command("create_tenant", "acme", name="Acme", client_id="acme-client")
            call_command("add_member", "acme", "owner@acme.example", role="owner")
        call_command("create_api_token", "acme", name="For a test", scope=["read"])
        assert current_scope() == NOBODY

    assert Membership.objects.get().tenant.slug == "acme"


@pytest.mark.django_db
def test_a_request_leaves_nothing_behind():
    cast = make_cast()
    client = Client()
    client.force_login(cast.owner.user)

    with tenant_scope(cast.tenant):
        for path in ("/", f"/t/{cast.tenant.slug}/devices/", "/api/v1/devices", "/t/nowhere/devices/"):
            client.get(path)
            assert current_scope() == of(cast.tenant.pk), path


recorded: list[Scope] = []


def recorder(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware that notes the scope a view would find."""

    def middleware(request: HttpRequest) -> HttpResponse:
        recorded.append(current_scope())
        return get_response(request)

    return middleware


def test_a_request_does_not_inherit_whose_rows_are_seen_outside(settings):
    """The suite itself sees all tenants; were that inherited, no test would ever meet the wall."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:2], f"{__name__}.recorder"]
    recorded.clear()
    assert current_scope().tenants is None

    Client().get("/healthz/live")

    assert recorded == [NOBODY]
