"""What the tests of linking share: a tenant, a person, and a Ring that does as it is told."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import LazySettings
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import RingAccount, Tenant, User
from accounts.tasks import sweep_linking
from accounts.tests.scripted_ring import ScriptedRing, serve
from ring.nonce import LinkQuery, compute_nonce
from ring.timestamps import to_epoch_ms
from tests.support.cast import PASSWORD, make_tenant, make_user


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """Rate limits and codes seen belong to one test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ring(settings: LazySettings) -> Iterator[ScriptedRing]:
    with serve(ScriptedRing()) as scripted:
        settings.RING_API_URL = scripted.url
        settings.RING_TOKEN_URL = f"{scripted.url}/oauth/token"
        settings.DEBUG = True  # plain http to loopback is for development only
        yield scripted


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def ada(db: None) -> User:
    return make_user("ada@customer.example")


@pytest.fixture
def ada_client(ada: User) -> Client:
    client = Client()
    assert client.login(username=ada.email, password=PASSWORD)
    return client


def make_query(
    tenant: Tenant, ring_id: str, *, at: datetime | None = None, key: str | None = None
) -> LinkQuery:
    """What Ring would send the browser of this Ring account with at `at` (default: now)."""
    time_ms = str(to_epoch_ms(at or timezone.now()))
    nonce = compute_nonce(key=key or tenant.ring_app.signing_key, time_ms=time_ms, account_id=ring_id)
    return LinkQuery(nonce=nonce, time_ms=time_ms)


@dataclass
class Linking:
    """The steps of a link as Ring and a browser take them."""

    tenant: Tenant
    ring: ScriptedRing

    def send_code(self, code: str = "canary-code-1", **extra: str) -> int:
        """Ring's backend POSTs a code; give the status of our answer."""
        answer = Client().post(
            f"/ring/{self.tenant.slug}/token", urlencode({"code": code, **extra}), content_type=FORM
        )
        return answer.status_code

    def arrive(self, client: Client, query: LinkQuery | None = None) -> "LinkQuery":
        """The browser follows Ring's redirect."""
        query = query or make_query(self.tenant, self.ring.account_id)
        self.answer = client.get(
            f"/ring/{self.tenant.slug}/link", {"nonce": query.nonce, "time": query.time_ms}
        )
        return query

    @property
    def account(self) -> RingAccount:
        return RingAccount.objects.get(ring_id=self.ring.account_id)


FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def linking(tenant: Tenant, ring: ScriptedRing) -> Linking:
    return Linking(tenant, ring)


@pytest.fixture
def make_unclaimed(tenant: Tenant) -> Callable[..., RingAccount]:
    """A Ring account that waits for its person, with tokens the scripted Ring takes."""

    def make(ring_id: str = "ava1.ring.account.ADA1", **fields: object) -> RingAccount:
        now = timezone.now()
        values: dict[str, object] = {
            "tenant": tenant,
            "ring_id": ring_id,
            "state": RingAccount.State.UNCLAIMED,
            "first_name": "Ada",
            "email": "ada.lovelace@ring.example",
            "access_token": f"canary-access-{ring_id}",
            "refresh_token": f"canary-refresh-{ring_id}",
            "access_expires_at": now + timedelta(hours=4),
            "tokens_obtained_at": now,
        }
        return RingAccount.objects.create(**{**values, **fields})

    return make


@pytest.fixture
def make_due() -> Callable[[RingAccount], None]:
    """Let the lease or pause of an account's linking be over, and enqueue what the sweep would."""

    def make(account: RingAccount) -> None:
        RingAccount.objects.filter(pk=account.pk).exclude(next_attempt_at=None).update(
            next_attempt_at=timezone.now()
        )
        sweep_linking.func()

    return make
