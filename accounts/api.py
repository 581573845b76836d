"""The base of every JSON:API resource: who may see what, and what a list may be asked; and the accounts themselves."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from django.db.models import Model, QuerySet
from django.utils.cache import patch_vary_headers

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_authentication import viewers
from accounts.models import RingAccount
from portal.api import Filter, ResourceSerializer, SelfLink, bad_parameter, choices, visible_to_any
from portal.tenancy import TenantQuerySet, Viewer

_FAMILY: Final = re.compile(r"(fields|page|filter)\[([\w.-]+)\]", re.ASCII)


class TenantResource(viewsets.ReadOnlyModelViewSet[Any]):
    """
    A resource of tenants, read by its public id. Another tenant's row and a missing one give the same 404.

    `rows` are all there are, with what a document needs loaded; `filters` and `sorts` name what a list may be asked
    for, besides `include`, `fields[…]`, `page[number]`, `page[size]` and `filter[tenant]`. Anything else is 400.
    """

    lookup_field = "public_id"
    lookup_value_converter = "uuid"
    rows: ClassVar[TenantQuerySet[Any]]
    filters: ClassVar[Mapping[str, Filter]] = {}
    sorts: ClassVar[Mapping[str, str]] = {}
    default_sort: ClassVar[str]
    relationships: ClassVar[tuple[str, ...]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._check_query(request)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """What is told to one is kept by nobody between."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final.setdefault("Cache-Control", "private, no-store")
        patch_vary_headers(final, ("Accept", "Authorization", "Cookie"))
        return final

    def _check_query(self, request: Request) -> None:
        """JSON:API wants 400 for every parameter we do not know."""
        for name, values in request.query_params.lists():
            family = _FAMILY.fullmatch(name)
            if len(values) > 1:
                raise bad_parameter(name, "Give this once.")
            if "\0" in values[0]:
                raise bad_parameter(name, "There is a character in it that no text holds.")
            if name == "include":
                self._check_include(values[0])
            elif name == "sort":
                choices("sort", values[0].replace("-", ""), self.sorts)
            elif family is None:
                raise bad_parameter(name, "There is no such parameter.")
            elif family[1] == "page" and family[2] not in {"number", "size"}:
                raise bad_parameter(name, "Known are: page[number], page[size].")
            elif family[1] == "filter" and family[2] not in {"tenant", *self.filters}:
                known = ", ".join(f"filter[{key}]" for key in ("tenant", *self.filters))
                raise bad_parameter(name, f"Known are: {known}.")

    def _check_include(self, wanted: str) -> None:
        for path in wanted.split(",") if wanted else []:
            serializer: Any = self.get_serializer_class()
            for name in path.split("."):
                known = getattr(serializer, "included_serializers", {})
                if name not in known:
                    raise bad_parameter("include", f"Known are: {', '.join(known) or 'none'}.")
                serializer = known[name]

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return self.rows.none()
        return visible_to_any(self.rows.all(), viewers(self.request))

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.action != "list":
            return queryset
        for name, narrow in self.filters.items():
            text = self.request.query_params.get(f"filter[{name}]")
            if text is not None:
                queryset = narrow(queryset, text)
        return queryset.order_by(*self._order())

    def _order(self) -> list[str]:
        wanted = self.request.query_params.get("sort") or self.default_sort
        fields = [
            ("-" if term.startswith("-") else "") + self.sorts[term.lstrip("-")] for term in wanted.split(",")
        ]
        # The primary key makes the order whole, so that pages neither repeat nor skip a row.
        return [*fields, "-pk" if fields[0].startswith("-") else "pk"]


def viewers_in(context: dict[str, Any]) -> list[Viewer]:
    """As whom a serializer's request looks; asked once a document."""
    if "viewers" not in context:
        context["viewers"] = viewers(context["request"])
    found: list[Viewer] = context["viewers"]
    return found


def account_shown(context: dict[str, Any], account: RingAccount) -> bool:
    """A device may be granted to somebody who has no business with the Ring account it hangs on."""
    return any(
        viewer.tenant_id == account.tenant_id
        and (viewer.sees_whole_tenant or (viewer.user_id is not None and viewer.user_id == account.user_id))
        for viewer in viewers_in(context)
    )


class AccountSerializer(ResourceSerializer):
    """A Ring account that shares with the tenant: where its link stands. Never its tokens, nonce or e-mail address."""

    url = SelfLink("accounts")

    class Meta:
        model: type[Model] = RingAccount
        resource_name = "accounts"
        fields = (
            "id",
            "url",
            "state",
            "first_name",
            "account_identifier",
            "received_at",
            "claimed_at",
            "linked_at",
            "consent_at",
            "synced_at",
        )
        read_only_fields = fields


class AccountResource(TenantResource):
    """Linked Ring accounts."""

    rows = RingAccount.objects.all()
    serializer_class = AccountSerializer
    filters: ClassVar[Mapping[str, Filter]] = {
        "state": lambda rows, text: rows.filter(
            state__in=choices("filter[state]", text, RingAccount.State.values)
        ),
    }
    sorts: ClassVar[Mapping[str, str]] = {"received_at": "received_at", "linked_at": "linked_at"}
    default_sort = "-received_at"
