"""
Processes that ask for the one linked account's access token, as pages and tasks do; and what became of the account.

`python -m tests.support.token_callers` reads one order a line and answers each with a line of JSON:

    prepare SECONDS    the access token ends in so many seconds, nobody holds the lease
    ask COUNT          so many processes ask at the same moment: what each got, the digest of a token or an error's name
    begin              one process begins to ask: its id
    show               state, tokens (whether, not which) and reasons

The asking processes are forked, so that twenty of them start Django once.
"""

import hashlib
import json
import os
import sys
from datetime import timedelta
from typing import Any

import django


def prepare(seconds: int) -> None:
    from django.utils import timezone

    from accounts.models import RingAccount

    now = timezone.now()
    RingAccount.objects.update(
        access_expires_at=now + timedelta(seconds=seconds),
        tokens_obtained_at=now - timedelta(hours=4) + timedelta(seconds=seconds),
        refreshing_until=None,
    )


def ask(count: int) -> list[str]:
    """Fork, let everybody get ready, then open the gate by closing its other end."""
    gate, opener = os.pipe()
    results, writer = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)
            os.write(writer, f"{_ask_once()}\n".encode())  # whole lines, though many write
            os._exit(0)
        children.append(child)
    for end in (opener, gate, writer):
        os.close(end)
    for child in children:
        os.waitpid(child, 0)
    with os.fdopen(results) as lines:
        return lines.read().split()


def begin() -> int:
    child = os.fork()
    if child == 0:
        _ask_once()
        os._exit(0)
    return child


def _ask_once() -> str:
    from accounts.models import RingAccount
    from accounts.tokens import fresh_access_token

    try:
        token = fresh_access_token(RingAccount.objects.get())
    except Exception as error:  # whatever it is, the test wants to read it
        return type(error).__name__
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def show() -> dict[str, Any]:
    from accounts.models import AuditEntry, RingAccount

    row = RingAccount.objects.get()
    entries = AuditEntry.objects.filter(action__in=["link.relink_required", "link.refresh_refused"])
    return {
        "state": row.state,
        "has_access_token": row.access_token != "",
        "has_refresh_token": row.refresh_token != "",
        "is_answer_open": row.refresh_unanswered_at is not None,
        "reasons": [entry.detail["reason"] for entry in entries.order_by("pk")],
    }


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    django.setup()
    from django.db import connections

    from portal.walls import enter_all_tenants

    enter_all_tenants("a test asks for the one account there is")
    orders = {"prepare": prepare, "ask": ask, "begin": begin, "show": show}
    for line in sys.stdin:
        name, *numbers = line.split()
        answer = orders[name](*(int(number) for number in numbers))  # type: ignore[operator]
        # No child may inherit a connection, or a pool: its threads are not forked with it.
        for connection in connections.all():
            connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()  # type: ignore[attr-defined]  # of Django's PostgreSQL backend
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
