"""A tenant's Ring app credentials: written by its admins, read by linking and webhooks, shown to nobody."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.audit import audit
from accounts.models import RingApp, Tenant, User
from ring.errors import ClientRejected, TokenRejected


class ClientIdTaken(Exception):
    """Another tenant uses this client id; each Ring app belongs to one."""


class SecretsMissing(Exception):
    """A new Ring app needs its client secret and its signing key."""


def set_ring_app(
    *,
    tenant: Tenant,
    client_id: str,
    client_secret: str = "",
    signing_key: str = "",
    actor: User | None = None,
) -> RingApp:
    """
    Store the credentials; an empty secret or key keeps the one we have.

    A new signing key makes the one before it the previous one, which still verifies (contract 1.3 [inferred]): Ring
    may use either while the change takes hold. Raises ClientIdTaken or SecretsMissing; then nothing changes.
    """
    try:
        with transaction.atomic():
            app = RingApp.objects.select_for_update().filter(tenant=tenant).first() or RingApp(tenant=tenant)
            is_new = app.pk is None
            if is_new and not (client_secret and signing_key):
                raise SecretsMissing
            changed = [] if app.client_id == client_id else ["client_id"]
            app.client_id = client_id
            if client_secret and (is_new or client_secret != app.client_secret):
                app.client_secret = client_secret
                changed.append("client_secret")
            if signing_key and (is_new or signing_key != app.signing_key):
                app.previous_signing_key = "" if is_new else app.signing_key
                app.signing_key = signing_key
                changed.append("signing_key")
            if {"client_id", "client_secret"} & set(changed):
                app.accepted_at = app.refused_at = None
            app.save()
            if changed:
                _record(app, actor, "ring_app.changed", changed)
    except IntegrityError:
        raise ClientIdTaken from None
    return app


def drop_previous_key(*, tenant: Tenant, actor: User) -> None:
    """Stop accepting the signing key before the current one."""
    with transaction.atomic():
        app = RingApp.objects.select_for_update().get(tenant=tenant)
        if app.previous_signing_key:
            app.previous_signing_key = ""
            app.save()
            _record(app, actor, "ring_app.previous_key_dropped", ["previous_signing_key"])


def set_partner_initiated(*, tenant: Tenant, is_on: bool, actor: User) -> None:
    """Let linking begin here (contract 3.2), or no more. Links that exist stay. Raises RingApp.DoesNotExist."""
    with transaction.atomic():
        app = RingApp.objects.select_for_update().get(tenant=tenant)
        if app.partner_initiated != is_on:
            app.partner_initiated = is_on
            app.save(update_fields=["partner_initiated"])
            _record(app, actor, "ring_app.changed", ["partner_initiated"])


ACCEPTED_WRITTEN_EVERY = timedelta(hours=1)
"""Every refresh of every account brings a yes; one an hour is enough to know."""


def record_answer(app: RingApp, *, accepted: bool, now: datetime) -> None:
    """
    Remember what Ring's token endpoint said to the id and the secret `app` holds; nothing when they changed meanwhile.

    There is no documented request that only asks whether credentials are good (contract 2.3), so the real ones tell.
    """
    same = RingApp.objects.filter(pk=app.pk, updated_at=app.updated_at)
    if accepted:
        known = Q(accepted_at__gt=now - ACCEPTED_WRITTEN_EVERY, refused_at__isnull=True)
        same.exclude(known).update(accepted_at=now, refused_at=None)
    else:
        same.update(refused_at=now)


@contextmanager
def answers_recorded(app: RingApp) -> Iterator[None]:
    """
    Around a call of the token endpoint: remember whether Ring took the credentials, whatever it said to the token.

    `invalid_grant` speaks of the code or the token, so the client itself was known (RFC 6749 5.2).
    """
    try:
        yield
    except ClientRejected:
        record_answer(app, accepted=False, now=timezone.now())
        raise
    except TokenRejected as error:
        if error.code == "invalid_grant":
            record_answer(app, accepted=True, now=timezone.now())
        raise
    record_answer(app, accepted=True, now=timezone.now())


def _record(app: RingApp, actor: User | None, action: str, fields: list[str]) -> None:
    audit(tenant=app.tenant, actor=actor, action=action, subject=f"ring_app {app.public_id}", fields=fields)
