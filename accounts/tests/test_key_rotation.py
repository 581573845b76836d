"""A tenant's signing key is changed in the settings, and what Ring signs with either key is taken meanwhile."""

from http import HTTPStatus

from django.test import Client

import pytest

from accounts.models import Membership, RingAccount, Role
from accounts.tests.conftest import Linking, make_query
from tests.support.cast import PASSWORD, make_membership

pytestmark = pytest.mark.django_db

State = RingAccount.State


@pytest.fixture
def owner(linking: Linking) -> Client:
    """The tenant's owner has entered a new key: `new-key` after `acme-key`."""
    membership: Membership = make_membership(linking.tenant, "owner@acme.example", Role.OWNER)
    client = Client()
    assert client.login(username=membership.user.email, password=PASSWORD)
    answer = client.post("/t/acme/settings/ring/", {"client_id": "acme-client", "signing_key": "new-key"})
    assert answer.status_code == HTTPStatus.FOUND
    return client


def link_signed_with(linking: Linking, client: Client, key: str) -> int:
    linking.arrive(client, make_query(linking.tenant, linking.ring.account_id, key=key))
    return client.post("/t/acme/link/").status_code


@pytest.mark.parametrize("key", ["acme-key", "new-key"])
def test_a_link_signed_with_either_key_is_taken(
    linking: Linking, owner: Client, ada_client: Client, key: str
):
    linking.send_code()
    assert link_signed_with(linking, ada_client, key) == HTTPStatus.FOUND
    assert linking.account.state == State.LINKED


def test_a_link_signed_with_neither_is_refused(linking: Linking, owner: Client, ada_client: Client):
    linking.send_code()
    assert link_signed_with(linking, ada_client, "third-key") >= HTTPStatus.BAD_REQUEST
    assert linking.account.state == State.UNCLAIMED


def test_the_old_key_is_refused_once_it_is_dropped_and_the_new_one_is_not(
    linking: Linking, owner: Client, ada_client: Client
):
    linking.send_code()
    assert owner.post("/t/acme/settings/ring/drop-key/").status_code == HTTPStatus.FOUND
    assert link_signed_with(linking, ada_client, "acme-key") >= HTTPStatus.BAD_REQUEST
    assert linking.account.state == State.UNCLAIMED
    assert link_signed_with(linking, ada_client, "new-key") == HTTPStatus.FOUND
    assert linking.account.state == State.LINKED
