"""The ordinary way to take a webhook in, done well: a sync Django view, HMAC, insert, `group_send`."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from accounts.models import RingApp
from bench.peers.frames import bare_frame
from events.models import Delivery, Event, TenantPosition
from portal.walls import across_tenants


@csrf_exempt
@require_POST
@across_tenants("the ordinary way knows no wall between tenants")
def webhook(request: HttpRequest, tenant: str) -> HttpResponse:
    """Verify, insert, broadcast."""
    app = RingApp.objects.select_related("tenant").get(tenant__slug=tenant)
    expected = "sha256=" + hmac.new(app.signing_key.encode(), request.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Signature", "")):
        return JsonResponse({"error": "bad_signature"}, status=401)
    document = json.loads(request.body)
    now = datetime.now(UTC)
    with transaction.atomic():
        position, _ = TenantPosition.objects.select_for_update().get_or_create(tenant=app.tenant)
        position.last += 1
        position.save()
        delivery = Delivery.objects.create(
            tenant=app.tenant,
            received_at=now,
            request_id=document["meta"]["request_id"],
            body=request.body,
            verdict=Delivery.Verdict.RECORDED,
        )
        Event.objects.create(
            tenant=app.tenant,
            delivery=delivery,
            request_id=document["meta"]["request_id"],
            position=position.last,
            event_type=document["data"]["type"],
            ring_event_id=document["data"]["id"],
            account_ring_id=document["meta"]["account_id"],
            occurred_at=now,
            received_at=now,
        )
    text = bare_frame(position.last, document["data"]["attributes"]["sub_type"])
    async_to_sync(get_channel_layer().group_send)("bench", {"type": "event.recorded", "text": text})
    return JsonResponse({"status": "ok"})


urlpatterns = [path("ring/<slug:tenant>/webhook", webhook)]
