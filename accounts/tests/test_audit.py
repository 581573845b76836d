"""The audit trail: one chain for each tenant, in which any later change is found."""

import io
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from uuid import uuid4

from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.utils import timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.audit import audit, chain, chain_all, reseal, verify
from accounts.models import AuditEntry, AuditHead, AuditPerson, Tenant
from accounts.tasks import sweep_audit
from tests.support.cast import TenantCast, make_cast, make_tenant, make_user

RAW: models.QuerySet[AuditEntry] = models.QuerySet(AuditEntry)
"""Past the guards of the model's own manager, as somebody with the database's password is."""


def write(tenant: Tenant, count: int, **values: Any) -> None:
    for number in range(count):
        audit(
            tenant=tenant,
            **{
                "actor": None,
                "action": "live.ended",
                "subject": f"device {uuid4()}",
                "watched_s": number + 0.5,
                **values,
            },
        )
    chain(tenant.pk)


@pytest.fixture
def cast(db: None) -> TenantCast:
    return make_cast()


def test_entries_are_chained_when_their_transaction_is_through(
    cast: TenantCast, django_capture_on_commit_callbacks: Callable[..., Any]
):
    with django_capture_on_commit_callbacks(execute=True):
        audit(tenant=cast.tenant, actor=cast.ada.user, action="a", subject="x")
        audit(tenant=cast.tenant, actor=None, action="b", subject="x", when="now")

    first, second = AuditEntry.objects.order_by("sequence")
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.previous_hash == "" and second.previous_hash == first.hash
    assert AuditHead.objects.get().hash == second.hash
    assert verify(cast.tenant).problems == []


def test_what_is_rolled_back_leaves_no_entry(cast: TenantCast):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        audit(tenant=cast.tenant, actor=None, action="a", subject="x")
        raise ZeroDivisionError

    chain_all()

    assert not AuditEntry.objects.exists()


def test_entries_of_a_process_that_died_are_chained_by_the_sweep(cast: TenantCast):
    audit(tenant=cast.tenant, actor=None, action="a", subject="x")  # the commit hooks of a test never run

    sweep_audit.func()

    assert AuditEntry.objects.get().sequence == 1


def test_each_tenant_has_a_chain_of_its_own(cast: TenantCast):
    other = make_tenant("other")
    write(cast.tenant, 2)
    write(other, 1)

    assert [entry.sequence for entry in AuditEntry.objects.for_tenant(other)] == [1]
    assert (verify(cast.tenant).last, verify(other).last) == (2, 1)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: AuditEntry.objects.update(action="x"),
        lambda: AuditEntry.objects.all().delete(),
        lambda: AuditEntry.objects.get().delete(),
        lambda: AuditEntry.objects.get().save(),
        lambda: AuditEntry.objects.bulk_create([]),
        lambda: AuditEntry.objects.bulk_update([], ["action"]),
    ],
)
def test_the_orm_changes_and_deletes_no_entry(cast: TenantCast, attempt: Callable[[], None]):
    write(cast.tenant, 1)

    with pytest.raises(TypeError):
        attempt()

    assert verify(cast.tenant).entries == 1


# --- any change is found ------------------------------------------------------------------------------------------

LENGTH = 6
CHANGES: dict[str, Callable[[AuditEntry], Any]] = {
    "action": lambda entry: f"{entry.action}x",
    "subject": lambda entry: entry.subject[:-1],
    "detail": lambda entry: {**entry.detail, "watched_s": -1},
    "at": lambda entry: timezone.now(),
    "actor_ref": lambda entry: uuid4(),
    "about_ref": lambda entry: None if entry.about_ref else uuid4(),
    "public_id": lambda entry: uuid4(),
    "previous_hash": lambda entry: "0" * 64,
    "hash": lambda entry: "f" * 64,
    "sequence": lambda entry: 10 * LENGTH,
}


@pytest.mark.django_db
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_found(data: st.DataObject):
    with transaction.atomic():
        tenant = make_tenant("chained")
        user = make_user("somebody@chained.example")
        write(tenant, LENGTH, actor=user, about_person=user)
        assert verify(tenant).problems == []
        number = data.draw(st.integers(1, LENGTH), label="entry")
        what = data.draw(
            st.sampled_from([*sorted(CHANGES), "delete", "swap", "tenant", "rewrite"]), label="what"
        )
        chosen = RAW.filter(tenant=tenant, sequence=number)
        entry = chosen.get()

        if what in CHANGES:
            chosen.update(**{what: CHANGES[what](entry)})
        elif what == "delete":
            chosen._raw_delete(chosen.db)
        elif what == "tenant":
            chosen.update(tenant=make_tenant("elsewhere"))
        elif what == "swap":
            other = data.draw(st.integers(1, LENGTH).filter(lambda n: n != number), label="with")
            chosen.update(sequence=99)
            RAW.filter(tenant=tenant, sequence=other).update(sequence=number)
            RAW.filter(tenant=tenant, sequence=99).update(sequence=other)
        else:
            rewrite(tenant, since=number)

        assert verify(tenant).problems
        transaction.set_rollback(True)


def rewrite(tenant: Tenant, *, since: int) -> None:
    """Change an entry, and compute every hash after it anew, the head's too: all that can be done without the key."""
    from accounts.audit import chained_content, content_hash

    previous = RAW.filter(tenant=tenant, sequence=since).get().previous_hash
    for entry in RAW.filter(tenant=tenant, sequence__gte=since).order_by("sequence"):
        entry.previous_hash = previous
        entry.action = "rewritten"
        previous = content_hash(chained_content(entry, tenant))
        RAW.filter(pk=entry.pk).update(action="rewritten", previous_hash=entry.previous_hash, hash=previous)
    AuditHead.objects.filter(tenant=tenant).update(hash=previous)


def test_the_problems_say_which_entry(cast: TenantCast):
    write(cast.tenant, 5)
    RAW.filter(sequence=2).update(action="x")
    gone = RAW.filter(sequence__gte=4)
    gone._raw_delete(gone.db)

    problems = verify(cast.tenant).problems

    assert any(problem.startswith("Entry 2 ") for problem in problems)
    assert "Entries 4 to 5 are missing." in problems


def test_an_entry_slipped_in_past_the_portal_is_not_taken_into_the_chain(cast: TenantCast):
    write(cast.tenant, 1)
    forged = AuditEntry(tenant=cast.tenant, action="live.started", subject="device x")
    forged.save()

    chain(cast.tenant.pk)

    forged.refresh_from_db()
    assert forged.sequence is None
    [problem] = verify(cast.tenant).problems
    assert str(forged.public_id) in problem


def test_entries_slipped_in_do_not_keep_later_ones_out_of_the_chain(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("accounts.audit.CHAINED_AT_ONCE", 2)
    for seal in ("", "f" * 64, "é", "no seal", "x"):
        AuditEntry(tenant=cast.tenant, action="live.started", subject="device x", hash=seal).save()

    write(cast.tenant, 3)
    sweep_audit.func()
    chain_all()

    ours = AuditEntry.objects.filter(action="live.ended")
    assert list(ours.order_by("sequence").values_list("sequence", flat=True)) == [1, 2, 3]
    assert caplog.text.count("not written by the portal") == 5, (
        "each is reported when it is set aside, and once"
    )
    assert len(verify(cast.tenant).problems) == 5


def test_an_entry_whose_key_was_missing_for_a_while_is_chained_by_the_verification(
    cast: TenantCast, settings: Any
):
    audit(tenant=cast.tenant, actor=None, action="a", subject="x")
    key, settings.SECRET_KEY = settings.SECRET_KEY, "another one"
    assert chain(cast.tenant.pk) == 0
    assert len(verify(cast.tenant).problems) == 1

    settings.SECRET_KEY_FALLBACKS = [key]
    assert verify(cast.tenant).problems == []
    assert AuditEntry.objects.get().sequence == 1


def test_a_broken_seal_stays_broken_until_staff_seal_anew(cast: TenantCast):
    write(cast.tenant, 3)
    rewrite(cast.tenant, since=2)
    write(cast.tenant, 2)  # what the portal appends must not heal the wound

    assert "seal" in " ".join(verify(cast.tenant).problems)
    reseal(cast.tenant)
    assert verify(cast.tenant).problems == []


def test_the_trail_outlives_a_change_of_the_secret_key(cast: TenantCast, settings: Any):
    write(cast.tenant, 2)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one"
    assert verify(cast.tenant).problems == []
    write(cast.tenant, 1)
    settings.SECRET_KEY_FALLBACKS = []

    assert verify(cast.tenant).problems == []  # the last entry sealed with the new key


def test_erasing_a_person_leaves_the_chain_whole_and_the_entries_nameless(cast: TenantCast):
    write(cast.tenant, 2, actor=cast.ada.user, about_person=cast.ada.user)
    refs = set(AuditEntry.objects.values_list("actor_ref", flat=True))

    AuditPerson.objects.filter(user=cast.ada.user).delete()

    assert verify(cast.tenant).problems == []
    assert set(AuditEntry.objects.values_list("actor_ref", flat=True)) == refs
    assert [entry.actor for entry in AuditEntry.objects.all()] == [None, None]


def test_a_person_goes_by_another_reference_in_each_tenant(cast: TenantCast):
    other = make_tenant("other")
    write(cast.tenant, 1, actor=cast.ada.user)
    write(other, 1, actor=cast.ada.user)

    here, there = AuditEntry.objects.order_by("pk").values_list("actor_ref", flat=True)
    assert here != there


@pytest.mark.django_db(transaction=True)
def test_two_who_write_at_once_do_not_fork_the_chain():
    tenant = make_tenant("busy")
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(10):
                audit(tenant=tenant, actor=None, action="a", subject="x")
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=copy_context().run, args=[work]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain_all()

    assert errors == []
    verdict = verify(tenant)
    assert (verdict.entries, verdict.last, verdict.problems) == (40, 40, [])


# --- the command --------------------------------------------------------------------------------------------------


def run(*args: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("verify_audit", *args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_says_that_all_is_well_and_where_the_chains_end(cast: TenantCast):
    write(cast.tenant, 2)

    out, err = run()

    head = AuditHead.objects.get()
    assert f"acme: 2 entries, whole. End 2:{head.hash}" in out
    assert err == ""
    run("acme", "--since", f"2:{head.hash}")


def test_the_command_fails_and_names_the_entry(cast: TenantCast, capsys: Any):
    write(cast.tenant, 3)
    RAW.filter(sequence=2).update(detail={})

    err = io.StringIO()
    with pytest.raises(CommandError):
        call_command("verify_audit", "acme", stdout=io.StringIO(), stderr=err)

    assert "acme: Entry 2 " in err.getvalue()


def test_the_command_finds_history_written_anew_by_a_noted_end(cast: TenantCast):
    write(cast.tenant, 2)
    noted = f"2:{AuditHead.objects.get().hash}"
    rewrite(cast.tenant, since=1)
    reseal(cast.tenant)  # even whoever has the key

    with pytest.raises(CommandError):
        run("acme", "--since", noted)
