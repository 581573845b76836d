import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from unittest.mock import patch

from django.db import OperationalError, connection

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import RingApp, Tenant
from events import intake, services
from events.models import Delivery, Event, TenantPosition
from events.tests.conftest import BODIES, body_of, post_webhook, send_http
from events.threads import in_thread
from portal.logs import SecretsFilter
from ring.signature import sign
from tests.support.cast import make_tenant

VECTOR = (BODIES / "contract_vector.json").read_bytes()
VECTOR_KEY = "EXAMPLE-hmac-signing-key-0001"
VECTOR_SIGNATURE = "sha256=16865a14c59843b315b520e0c34ed8d4820c43f3077a812dca8700b762a79a8c"


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return make_tenant("acme")


async def count(model: type[Event] | type[Delivery]) -> int:
    return await in_thread(model.objects.count)


async def test_contract_vector_becomes_an_event(transactional_db: None):
    await in_thread(make_tenant, "vector", signing_key=VECTOR_KEY)

    answer = await post_webhook(VECTOR, tenant="vector", signature=VECTOR_SIGNATURE)

    assert (answer.status, answer.body) == (HTTPStatus.OK, {"status": "ok"})
    event = await in_thread(Event.objects.select_related("delivery").get)
    assert event.event_type == "button_press"
    assert event.device_ring_id == "ava1.ring.device.AAA"
    assert event.account_ring_id == "ava1.ring.account.AAAABBBBCCCC"
    assert event.occurred_at.isoformat() == "2026-09-21T14:13:20+00:00" and event.position == 1
    assert bytes(event.delivery.body) == VECTOR
    assert event.delivery.verdict == Delivery.Verdict.RECORDED


async def test_repeated_delivery_is_answered_and_stored_as_duplicate(tenant: Tenant):
    body = body_of("motion_detected")
    first = await post_webhook(body)
    retry = await post_webhook(body)

    assert first.status == retry.status == HTTPStatus.OK
    assert await count(Event) == 1
    verdicts = await in_thread(lambda: sorted(Delivery.objects.values_list("verdict", flat=True)))
    assert verdicts == ["duplicate", "recorded"]


async def test_the_answer_and_the_log_carry_rings_own_request_id(tenant: Tenant, logged_ids: list[str]):
    answer = await post_webhook(body_of("motion_detected", request=7))
    assert answer.headers["x-request-id"] == "request-7"
    assert logged_ids == ["request-7"]
    # One that does not fit into a line of the log is not taken over.
    strange = json.loads(body_of("motion_detected"))
    strange["meta"]["request_id"] = "a b"
    answer = await post_webhook(json.dumps(strange).encode())
    assert len(answer.headers["x-request-id"]) == 32


@pytest.fixture
def logged_ids() -> Iterator[list[str]]:
    """The request ids of what the intake logs, down to what only a debugger reads."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.__dict__["request_id"])

    logger, handler = logging.getLogger("events.intake"), Keep()
    handler.addFilter(SecretsFilter())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield seen
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


async def test_hundred_parallel_duplicates_make_one_event(tenant: Tenant):
    body = body_of("button_press")
    answers = await asyncio.gather(*(post_webhook(body) for _ in range(100)))

    assert {answer.status for answer in answers} == {HTTPStatus.OK}
    assert await count(Event) == 1
    assert await count(Delivery) == 100


async def test_same_device_event_under_another_request_id_is_a_duplicate(tenant: Tenant):
    document = json.loads(body_of("motion_detected"))
    await post_webhook(json.dumps(document).encode())
    document["meta"]["request_id"] = "another"
    await post_webhook(json.dumps(document).encode())

    assert await count(Event) == 1


async def test_same_subscription_id_under_another_request_id_is_another_event(tenant: Tenant):
    document = json.loads(body_of("subscription_activated"))
    await post_webhook(json.dumps(document).encode())
    document["meta"]["request_id"] = "the renewal"
    await post_webhook(json.dumps(document).encode())

    assert await count(Event) == 2


@pytest.mark.parametrize(
    ("name", "event_type", "sub_type"),
    [
        ("motion_detected", "motion_detected", "human"),
        ("motion_detected_subtype_beside_type", "motion_detected", "vehicle"),
        ("never_heard_of_this", "never_heard_of_this", ""),
        ("subscription_activated", "subscription_activated", "paid"),
        ("app_integration_added", "app_integration_added", ""),
    ],
)
async def test_every_documented_shape_is_stored(tenant: Tenant, name: str, event_type: str, sub_type: str):
    answer = await post_webhook(body_of(name))

    assert answer.status == HTTPStatus.OK
    event = await in_thread(Event.objects.get)
    assert (event.event_type, event.sub_type) == (event_type, sub_type)


async def test_each_tenant_counts_its_own_positions(tenant: Tenant):
    await in_thread(make_tenant, "other")
    for number in range(3):
        await post_webhook(body_of("motion_detected", request=number))
    await post_webhook(body_of("motion_detected", request=0), tenant="other")

    def positions() -> dict[str, list[int]]:
        return {
            slug: list(
                Event.objects.filter(tenant__slug=slug)
                .order_by("position")
                .values_list("position", flat=True)
            )
            for slug in ("acme", "other")
        }

    assert await in_thread(positions) == {"acme": [1, 2, 3], "other": [1]}


# --- what is refused, and how ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_is_taken(tenant: Tenant, method: str):
    answer = await post_webhook(b"{}", method=method)
    assert answer.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert answer.headers["allow"] == "POST"


async def test_unknown_tenant_is_not_found(tenant: Tenant):
    answer = await post_webhook(body_of("button_press"), tenant="nobody")
    assert answer.status == HTTPStatus.NOT_FOUND
    assert answer.body["error"] == "unknown_tenant"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
async def test_other_content_types_are_refused(tenant: Tenant, kind: str):
    answer = await post_webhook(body_of("button_press"), headers={"content-type": kind})
    assert answer.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"]
)
async def test_json_content_types_are_taken(tenant: Tenant, kind: str):
    answer = await post_webhook(body_of("button_press"), headers={"content-type": kind})
    assert answer.status == HTTPStatus.OK


async def test_body_over_the_limit_is_refused_by_its_announced_length(tenant: Tenant):
    headers = {"content-length": str(intake.MAX_BODY_BYTES + 1)}
    answer = await post_webhook(b"{}", headers=headers)
    assert answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_body_over_the_limit_is_refused_while_it_is_read(tenant: Tenant):
    answer = await post_webhook(b" " * (intake.MAX_BODY_BYTES + 1), pieces=20)
    assert answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert await count(Delivery) == 0


async def test_body_at_the_limit_in_many_pieces_is_taken(tenant: Tenant):
    body = body_of("motion_detected", filler="x" * (intake.MAX_BODY_BYTES - 2000))
    answer = await post_webhook(body, pieces=50)
    assert answer.status == HTTPStatus.OK


async def test_signature_of_another_tenant_is_refused_and_stores_nothing(tenant: Tenant):
    await in_thread(make_tenant, "other")
    answer = await post_webhook(body_of("button_press"), key="other-key")
    assert answer.status == HTTPStatus.UNAUTHORIZED
    assert "signing key" in answer.body["detail"]
    assert await count(Delivery) == 0


async def test_missing_or_doubled_signature_is_refused(tenant: Tenant):
    body = body_of("button_press")
    json_only = {"content-type": "application/json"}
    assert (await send_http("/ring/acme/webhook", body, headers=json_only)).status == HTTPStatus.UNAUTHORIZED
    doubled = json_only | {"x-signature": sign(body, "acme-key"), "X-Signature": sign(body, "acme-key")}
    assert (await send_http("/ring/acme/webhook", body, headers=doubled)).status == HTTPStatus.UNAUTHORIZED


async def test_refusal_is_one_log_line_without_secrets(tenant: Tenant, caplog: pytest.LogCaptureFixture):
    signature = sign(b"something else", "acme-key")
    await post_webhook(body_of("button_press"), signature=signature)

    lines = [record.getMessage() for record in caplog.records if record.name == "events.intake"]
    assert lines == ["Refused a webhook. tenant=acme status=401 reason=bad_signature"]
    assert signature not in caplog.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"meta":{},"data":{}}', b"\xff\xfe", b'{"meta":{"request_id":"x"}}']
)
async def test_signed_nonsense_is_kept_and_answered_400(tenant: Tenant, body: bytes):
    answer = await post_webhook(body)

    assert answer.status == HTTPStatus.BAD_REQUEST
    assert answer.body["error"] == "malformed"
    delivery = await in_thread(Delivery.objects.get)
    assert delivery.verdict == Delivery.Verdict.MALFORMED and delivery.reason and bytes(delivery.body) == body
    assert await count(Event) == 0


@pytest.mark.parametrize("depth", [65, 500, 990, 2000])
async def test_bottomless_json_is_malformed(tenant: Tenant, depth: int):
    deep = '{"a":' * depth + '"\\u0000"' + "}" * depth
    body = body_of("motion_detected").replace(b'"human"', deep.encode())
    answer = await post_webhook(body)
    assert answer.status == HTTPStatus.BAD_REQUEST


async def test_time_that_cannot_be_true_is_replaced_by_the_next_best(tenant: Tenant):
    await post_webhook(body_of("motion_detected", timestamp=253_402_300_799_999))
    event = await in_thread(Event.objects.get)
    assert event.occurred_at.isoformat().startswith("2026-09-21T13:33:20")
    assert event.attributes["timestamp"] == 253_402_300_799_999


# --- keys -----------------------------------------------------------------------------------------------------


async def test_rotated_key_counts_at_once_and_the_previous_one_still_does(tenant: Tenant):
    assert (await post_webhook(body_of("button_press", request=1))).status == HTTPStatus.OK

    def rotate(new: str, previous: str) -> None:
        app = RingApp.objects.get(tenant=tenant)
        app.signing_key, app.previous_signing_key = new, previous
        app.save()

    await in_thread(rotate, "new-key", "acme-key")
    assert (await post_webhook(body_of("button_press", request=2), key="new-key")).status == HTTPStatus.OK
    assert (await post_webhook(body_of("button_press", request=3), key="acme-key")).status == HTTPStatus.OK


async def test_dropped_key_stops_counting_once_the_cache_is_old(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
):
    assert (await post_webhook(body_of("button_press", request=1))).status == HTTPStatus.OK

    def drop() -> None:
        app = RingApp.objects.get(tenant=tenant)
        app.signing_key = "new-key"
        app.save()

    await in_thread(drop)
    monkeypatch.setattr(intake, "KEYS_GOOD_FOR_S", 0)
    answer = await post_webhook(body_of("button_press", request=2), key="acme-key")
    assert answer.status == HTTPStatus.UNAUTHORIZED


async def test_tenant_made_a_moment_after_it_was_asked_for_is_found(tenant: Tenant):
    assert (await post_webhook(b"{}", tenant="late")).status == HTTPStatus.NOT_FOUND
    await in_thread(make_tenant, "late")
    assert (await post_webhook(body_of("button_press"), tenant="late")).status == HTTPStatus.OK


# --- trouble of our own ---------------------------------------------------------------------------------------


class _NoDatabase:
    """A connection wrapper that stands for a database that went away."""

    def __call__(self, execute, sql, params, many, context):
        raise OperationalError("the server closed the connection unexpectedly")


async def test_database_away_asks_ring_to_come_again(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    def without_database(batch: list[services.Arrival]) -> list[services.Recorded]:
        with connection.execute_wrapper(_NoDatabase()):
            return services.record_batch(batch)

    body = body_of("button_press")
    with patch.object(intake, "record_batch", without_database):
        answer = await post_webhook(body)
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(answer.headers["retry-after"]) > 0

    assert (await post_webhook(body)).status == HTTPStatus.OK
    assert await count(Event) == 1


async def test_full_waiting_line_asks_ring_to_come_again(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake, "MAX_WAITING", 0)
    answer = await post_webhook(body_of("button_press"))
    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.body["error"] == "busy"


async def test_one_delivery_that_cannot_be_stored_does_not_hold_up_the_others(tenant: Tenant):
    """A tenant deleted while its delivery waits: the foreign key refuses that one, and only that one."""
    await in_thread(make_tenant, "doomed")
    # Both tenants' keys are in the cache from here on.
    await post_webhook(body_of("button_press", request="before"), tenant="doomed")
    await post_webhook(body_of("button_press", request="before"))
    await in_thread(lambda: Tenant.objects.filter(slug="doomed").delete())

    answers = await asyncio.gather(
        *(post_webhook(body_of("button_press", request=number)) for number in range(5)),
        post_webhook(body_of("button_press", request="lost"), tenant="doomed"),
        *(post_webhook(body_of("button_press", request=number)) for number in range(5, 10)),
    )
    statuses = [answer.status for answer in answers]
    assert statuses[5] == HTTPStatus.SERVICE_UNAVAILABLE
    assert set(statuses[:5] + statuses[6:]) == {HTTPStatus.OK}
    assert await count(Event) == 11


async def test_mistake_of_ours_is_answered_at_once_and_holds_up_no_other(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
):
    def mistaken(batch: list[services.Arrival]) -> list[services.Recorded]:
        if any(arrival.request_id == "request-bad" for arrival in batch):
            raise TypeError("a mistake")
        return services.record_batch(batch)

    with patch.object(intake, "record_batch", mistaken):
        async with asyncio.timeout(intake.ANSWER_WITHIN_S * 0.9):
            bad, *others = await asyncio.gather(
                *(post_webhook(body_of("button_press", request=name)) for name in ("bad", 1, 2, 3))
            )
    assert (bad.status, bad.body["error"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "not_stored")
    assert {answer.status for answer in others} == {HTTPStatus.OK}
    [logged] = [record for record in caplog.records if record.exc_info and record.name == "events.intake"]
    assert "cannot be stored" in logged.getMessage()


async def test_key_that_cannot_be_read_is_a_503_with_a_log(tenant: Tenant, caplog: pytest.LogCaptureFixture):
    def copy_from_another_row() -> None:
        table = RingApp._meta.db_table
        other = make_tenant("other")
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET signing_key = (SELECT signing_key FROM {table} WHERE tenant_id = %s) "  # noqa: S608
                "WHERE tenant_id = %s",
                [other.pk, tenant.pk],
            )

    await in_thread(copy_from_another_row)
    answer = await post_webhook(body_of("button_press"))
    assert (answer.status, answer.body["error"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "keys_unreadable")
    assert int(answer.headers["retry-after"]) > 0
    assert "signing keys cannot be read. tenant=acme" in caplog.text


async def test_who_waits_for_keys_shares_one_look_and_is_answered_in_time(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
):
    """The database hangs, and then says that it is gone: nobody asks it one after the other."""
    monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 0.3)
    read_keys = intake._read_keys
    looks: list[str] = []
    goes_on = threading.Event()

    def hanging(slug: str) -> tuple[int, tuple[str, ...]] | None:
        looks.append(slug)
        assert goes_on.wait(20)
        with connection.execute_wrapper(_NoDatabase()):
            return read_keys(slug)

    monkeypatch.setattr(intake, "_read_keys", hanging)
    try:
        async with asyncio.timeout(10):
            late = await asyncio.gather(
                *(post_webhook(body_of("button_press", request=number)) for number in range(20))
            )
        monkeypatch.setattr(intake, "ANSWER_WITHIN_S", 10)
        waiting = [
            asyncio.create_task(post_webhook(body_of("button_press", request=number))) for number in range(20)
        ]
    finally:
        goes_on.set()
    refused = await asyncio.gather(*waiting)
    assert [(answer.status, answer.body["error"]) for answer in late] == [(503, "slow")] * 20
    assert [(answer.status, answer.body["error"]) for answer in refused] == [(503, "unavailable")] * 20
    assert len(looks) < 10

    monkeypatch.setattr(intake, "_read_keys", read_keys)
    assert (await post_webhook(body_of("button_press", request="back"))).status == HTTPStatus.OK


async def test_what_else_the_process_has_to_do_keeps_no_webhook_waiting(tenant: Tenant):
    """After a restart: more browsers come back than the loop has threads."""
    goes_on = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    coming_back = [asyncio.create_task(in_thread(goes_on.wait, 20)) for _ in range(10)]
    try:
        async with asyncio.timeout(10):
            answer = await post_webhook(body_of("button_press"))
    finally:
        goes_on.set()
    await asyncio.gather(*coming_back)
    assert answer.status == HTTPStatus.OK
    assert await count(Event) == 1


# --- properties -----------------------------------------------------------------------------------------------

_HTTP = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_HTTP
@given(data=st.data())
def test_any_changed_byte_is_refused(tenant: Tenant, data: st.DataObject):
    at = data.draw(st.integers(0, len(VECTOR) - 1))
    changed = bytearray(VECTOR)
    changed[at] ^= data.draw(st.integers(1, 255))
    answer = asyncio.run(post_webhook(bytes(changed), signature=sign(VECTOR, "acme-key")))
    assert answer.status == HTTPStatus.UNAUTHORIZED


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_documents = st.fixed_dictionaries(
    {
        "meta": st.fixed_dictionaries(
            {"request_id": _json | st.text(min_size=1)},
            optional={"account_id": _json, "time": _json, "version": _json},
        ),
        "data": st.fixed_dictionaries(
            {
                "id": _json | st.text(min_size=1),
                "type": _json | st.sampled_from(["motion_detected", "button_press"]),
            },
            optional={
                "attributes": st.dictionaries(
                    st.sampled_from(
                        ["source", "source_type", "timestamp", "sub_type", "component_ids", "else"]
                    ),
                    _json,
                ),
                "relationships": _json,
                "subType": _json,
            },
        ),
    }
)


@_HTTP
@given(document=_json | _documents)
def test_any_signed_document_is_stored_or_malformed(tenant: Tenant, document: object):
    try:
        body = json.dumps(document).encode()
    except UnicodeEncodeError:
        return
    answer = asyncio.run(post_webhook(body))
    assert answer.status in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}


@_HTTP
@given(body=st.binary(max_size=400))
def test_any_signed_bytes_get_a_plain_answer(tenant: Tenant, body: bytes):
    assert asyncio.run(post_webhook(body)).status in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}


# --- in order, whoever writes ---------------------------------------------------------------------------------


async def test_positions_have_no_holes_and_follow_the_answers(tenant: Tenant):
    for burst in range(4):
        await asyncio.gather(
            *(post_webhook(body_of("motion_detected", request=f"{burst}-{n}")) for n in range(25))
        )

    def stored() -> tuple[list[int], int]:
        positions = list(Event.objects.order_by("position").values_list("position", flat=True))
        return positions, TenantPosition.objects.get().last

    assert await in_thread(stored) == (list(range(1, 101)), 100)


async def test_a_slow_commit_is_shared_by_those_who_wait(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    record: Callable[..., list[services.Recorded]] = services.record_batch

    def counted(batch: list[services.Arrival]) -> list[services.Recorded]:
        sizes.append(len(batch))
        return record(batch)

    monkeypatch.setattr(intake, "record_batch", counted)
    await asyncio.gather(*(post_webhook(body_of("motion_detected", request=number)) for number in range(60)))
    assert sum(sizes) == 60
    assert len(sizes) < 30
