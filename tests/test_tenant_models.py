"""Every row of ours belongs to a tenant; the few that do not are named here, with the reason."""

from django.apps import apps

from accounts.models import Erasure, Tenant, User
from events.models import PushKey, TenantPosition
from media.models import RelayNode
from portal.models import WorkerHeartbeat
from portal.tenancy import TenantOwned, TenantQuerySet

OURS = ("accounts", "devices", "events", "media", "onboarding", "portal")
WITHOUT_TENANT = {
    Tenant: "is the tenant",
    User: "a person may belong to several; their part in each is a Membership",
    Erasure: "outlives its tenant: the receipt of what was deleted, which names nobody",
    PushKey: "signs the push messages of the whole installation",
    RelayNode: "a relay node serves the whole installation",
    WorkerHeartbeat: "a worker serves the whole installation",
}
# One row a tenant, counted on by the database alone: it has no public id because nobody outside ever names it.
WITHOUT_PUBLIC_ID = {TenantPosition}

MODELS = [model for model in apps.get_models() if model._meta.app_label in OURS]


def test_only_the_named_models_have_no_tenant():
    without = {model for model in MODELS if "tenant" not in {field.name for field in model._meta.fields}}

    assert without == set(WITHOUT_TENANT)


def test_every_row_of_a_tenant_is_known_outside_by_its_public_id():
    owned = {model for model in MODELS if issubclass(model, TenantOwned)}

    assert owned == set(MODELS) - set(WITHOUT_TENANT) - WITHOUT_PUBLIC_ID


def test_every_row_of_a_tenant_can_be_asked_for_by_who_looks():
    for model in set(MODELS) - set(WITHOUT_TENANT):
        assert isinstance(model._default_manager.all(), TenantQuerySet), model


def test_a_tenant_that_goes_takes_its_rows_along():
    for model in set(MODELS) - set(WITHOUT_TENANT):
        assert not model._meta.get_field("tenant").null, model
