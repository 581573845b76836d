"""No token, nonce, code, key or address of a person reaches a log, a page, an error or the trail (feature J3)."""

import io
import logging
from typing import Any

from django.core.serializers import serialize
from django.db import connection

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import AuditEntry, RingAccount, RingApp
from accounts.tests.conftest import Linking
from accounts.tests.scripted_ring import LOST, error
from portal.logs import JsonFormatter, SecretsFilter

POST, PATCH = "POST app-integrations", "PATCH app-integrations"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log_text():
    """Everything logged, as the handler of production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.setLevel(level)
    root.removeHandler(handler)


def test_a_link_with_every_kind_of_trouble_leaves_no_secret_behind(
    linking: Linking, ada_client, log_text, caplog, make_due, run_tasks
):
    caplog.set_level(logging.INFO)
    linking.ring.script.update(
        {
            "code": [(500, {"echo": "canary-code-0"}), (400, {"error": "invalid_grant"})],
            "me": [(500, {}), (401, {})],
            POST: [error(404, "Not Found"), (LOST, None), (500, {"errors": [{"detail": "canary-access-1"}]})],
            PATCH: [(429, {}), (401, {})],
        }
    )
    linking.send_code("canary-code-0")
    linking.send_code("canary-code-x")
    linking.send_code("canary-code-1")
    make_due(RingAccount.objects.get())
    run_tasks()
    pages = []

    def visit(answer: Any) -> Any:
        pages.append(answer.content.decode() + str(dict(answer.headers)))
        return answer

    nonces = []
    for _ in range(2):
        nonces.append(linking.arrive(ada_client).nonce)
        visit(linking.answer)
        visit(ada_client.get("/t/acme/link/"))
        answer = visit(ada_client.post("/t/acme/link/"))
    url = answer.headers["Location"]
    for _ in range(4):
        visit(ada_client.get(url))
        visit(ada_client.post(f"{url}finish/"))
    visit(ada_client.get(url))
    visit(ada_client.get("/t/acme/settings/"))
    assert linking.account.state == RingAccount.State.LINKED

    trail = serialize("json", AuditEntry.objects.all())
    everything = {"log": log_text(), "pages": "".join(pages), "trail": trail}
    stored = linking.account
    secrets = ["canary-", "acme-secret", "acme-key", *nonces, stored.access_token, stored.refresh_token]
    for where, text in everything.items():
        assert text
        assert [secret for secret in secrets if secret in text] == [], where
    assert "ada.lovelace@ring.example" not in everything["log"] + everything["pages"] + trail
    assert "ada@customer.example" not in everything["log"] + trail
    # What our own code says must not need the filter to be clean.
    ours = " ".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("accounts", "ring"))
    )
    assert [secret for secret in secrets if secret in ours] == []


def test_the_database_holds_no_token_key_or_nonce_in_clear(linking: Linking, ada_client):
    linking.ring.script[POST] = [(500, {})]
    linking.send_code()
    nonce = linking.arrive(ada_client).nonce
    ada_client.post("/t/acme/link/")
    assert linking.account.claim_nonce == nonce

    rows = []
    with connection.cursor() as cursor:
        for model in (RingAccount, RingApp, AuditEntry, DBTaskResult):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")  # noqa: S608 - our own table names
            rows += cursor.fetchall()
    dump = repr(rows)
    assert "v1." in dump
    for secret in ("canary-", "acme-secret", "acme-key", nonce, "ada.lovelace@ring.example"):
        assert secret not in dump
