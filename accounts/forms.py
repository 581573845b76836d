"""The forms of people, of a tenant's setup, and of signing up at the end of a link."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.utils import timezone

from allauth.account.forms import SignupForm as AllauthSignupForm
from allauth.core import context
from allauth.mfa.webauthn.forms import AddWebAuthnForm
from allauth.socialaccount.forms import DisconnectForm as AllauthDisconnectForm

from accounts import link_session, unlinking
from accounts.connections import ring_account_behind
from accounts.models import Membership, MfaPolicy, RingApp, Role, Tenant
from portal.walls import tenant_scope

INVITED_EMAIL = "invited_email"
"""The session's key of the address an invitation in this browser is for."""


class SignupForm(AllauthSignupForm):  # type: ignore[misc]  # allauth has no types
    """allauth's own, with the address Ring told us filled in for somebody who comes from a link (contract 2.6)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        request = context.request
        if request is not None and not self.is_bound:
            self.fields["email"].initial = request.session.get(link_session.EMAIL) or request.session.get(
                INVITED_EMAIL, ""
            )


class RoleForm(forms.Form):
    """What somebody is in the tenant. Owners are made by handing over the ownership, customers by linking."""

    LIMITED = "operator-limited"
    WORDS = {
        Role.OPERATOR.value: "Operator: sees all customers' devices and events",
        LIMITED: "Operator, limited: sees only the devices and groups given to them",
        Role.ADMIN.value: "Admin: also sets up the company and its people",
        Role.OWNER.value: "Owner: also makes owners",
        Role.CUSTOMER.value: "Customer: sees the devices of their own Ring accounts",
        Role.GUEST.value: "Guest: sees only what is given to them",
    }

    role = forms.ChoiceField(label="Role")

    def __init__(self, *args: Any, choices: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [(value, self.WORDS[value]) for value in choices]  # type: ignore[attr-defined]

    @classmethod
    def value_of(cls, role: str, *, is_limited: bool) -> str:
        return cls.LIMITED if is_limited else role

    @property
    def chosen(self) -> tuple[Role, bool]:
        """The role, and whether it is limited."""
        value = self.cleaned_data["role"]
        return (Role.OPERATOR, True) if value == self.LIMITED else (Role(value), False)


class InviteForm(RoleForm):
    """Who is invited, as what. Customers invite themselves, by linking their Ring account; guests are a device's."""

    email = forms.EmailField(label="E-mail address", max_length=254)
    field_order = ("email", "role")

    def __init__(self, *args: Any, may_make_owners: bool, **kwargs: Any) -> None:
        owner = [Role.OWNER.value] if may_make_owners else []
        super().__init__(
            *args, choices=[Role.OPERATOR.value, self.LIMITED, Role.ADMIN.value, *owner], **kwargs
        )
        self.fields[
            "role"
        ].help_text = "Customers come by themselves, by linking their Ring account. Guests are invited on a device's page."


class OwnerForm(forms.Form):
    """To whom the ownership goes."""

    member = forms.ModelChoiceField(
        Membership.objects.none(),
        label="New owner",
        to_field_name="public_id",
        empty_label="Choose a person",
        help_text="An admin or operator. They will be asked nothing; tell them first.",
    )

    def __init__(self, *args: Any, candidates: "QuerySet[Membership]", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["member"]
        field.queryset = candidates
        field.label_from_instance = lambda row: f"{row.user} ({row.title.lower()})"


class AddPasskeyForm(AddWebAuthnForm):  # type: ignore[misc]  # allauth has no types
    """allauth's own, but what is made is a passkey unless the person wants a key that only follows the password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["passwordless"].initial = True


class DisconnectForm(AllauthDisconnectForm):  # type: ignore[misc]  # allauth has no types
    """
    allauth's own, but to disconnect means to unlink: tokens gone, Ring told, the row removed with that.

    Nobody signs in by Ring, so the last connected account may always go.
    """

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data
        return given

    def save(self) -> None:
        connection = self.cleaned_data["account"]
        account = ring_account_behind(connection)
        if account is None:
            connection.delete()
            return
        with tenant_scope(account.tenant_id):
            unlinking.disconnect(account=account, actor=self.request.user, now=timezone.now())
        messages.success(self.request, unlinking.words_after(account))


class MfaPolicyForm(forms.Form):
    """Of whom the tenant demands a second factor."""

    require_mfa = forms.ChoiceField(
        label="Ask for a second step", choices=MfaPolicy.choices, widget=forms.RadioSelect
    )


class RingAppForm(forms.Form):
    """The Ring app's credentials. What is secret is only ever written: an empty field keeps what we have."""

    client_id = forms.CharField(
        label="Client ID",
        max_length=255,
        help_text="Issued when the app is created in Ring’s developer console.",
    )
    client_secret = forms.CharField(
        label="Client Secret",
        max_length=1024,
        required=False,
        help_text="Shown once, beside the Client ID, when the app is created.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    signing_key = forms.CharField(
        label="HMAC Signing Key",
        max_length=1024,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Ring’s console calls it HMAC Signature Key and shows it once, when the app is created. "
        "Enter it exactly as shown; it is not decoded.",
    )

    def __init__(self, *args: Any, app: RingApp | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["client_id"].initial = app.client_id if app else ""
        if app is None:
            self.fields["client_secret"].required = self.fields["signing_key"].required = True
        else:
            self.fields["client_secret"].help_text = "Set. Leave empty to keep it."
            self.fields[
                "signing_key"
            ].help_text = "Set. Leave empty to keep it. When you enter a new one, the old one stays good until you drop it."

    def clean_signing_key(self) -> str:
        key: str = self.cleaned_data["signing_key"]
        if key != key.strip():
            raise forms.ValidationError("There is a space before or after the key. Copy it again without.")
        return key


class CompanyForm(forms.ModelForm[Tenant]):
    """What customers see of the tenant."""

    class Meta:
        model = Tenant
        fields = ["name", "accent", "support_email", "privacy_url", "terms_url", "on_unlink"]
        labels = {
            "accent": "Colour",
            "support_email": "Support address",
            "privacy_url": "Privacy policy",
            "terms_url": "Terms of use",
            "on_unlink": "When a customer’s link ends",
        }
        help_texts = {
            "accent": "Buttons and marks; made lighter or darker where it could not be read.",
            "support_email": "Where customers write to; shown while they link, and wherever something went wrong.",
            "on_unlink": "Devices, events, clips and pictures of that home. Erasing happens at once when they disconnect here, "
            "and a day after they removed the app in the Ring app, so that adding it again loses nothing.",
            "privacy_url": "Shown before a customer links. Ring asks for it before it publishes an app.",
        }
        widgets = {
            "accent": forms.TextInput(attrs={"type": "color"}),
            "privacy_url": forms.URLInput(attrs={"placeholder": "https://"}),
            "terms_url": forms.URLInput(attrs={"placeholder": "https://"}),
        }
