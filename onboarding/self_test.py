"""
The self-test: a signed webhook through the real path, and everything on that path that can be told apart.

It runs in a worker, so a page never waits for it and the web process never waits for itself.
"""

import time
from collections.abc import Iterator

from django.utils import timezone

from accounts.models import Tenant
from events.models import Event
from onboarding import own_address
from onboarding.findings import Finding, Verdict
from onboarding.own_address import Unreachable, unexpected
from onboarding.test_events import (
    STORED_WITHIN_S,
    Deaf,
    NoKey,
    TestEvent,
    find_event,
    key_of,
    listening,
    make_test_event,
    post,
    wait_for_frame,
)

# Ring counts on an answer within 5 s (contract 9.1); half of it is a reason to look.
ANSWER_WITHIN_MS = 5000
SLOW_MS = 2000

ENTER_CREDENTIALS = Finding(
    "key",
    "Signing key",
    Verdict.BAD,
    "There is no signing key, so nothing can be signed or checked.",
    "Enter the credentials from Ring’s console under Company and Ring.",
)


def run_self_test(tenant: Tenant) -> Iterator[Finding]:
    """Give one finding after the other, in the order in which things can go wrong."""
    address = own_address.look_at_address()
    yield from address
    if address[-1].verdict == Verdict.BAD:
        return
    try:
        key = key_of(tenant)
    except NoKey:
        yield ENTER_CREDENTIALS
        return
    yield from own_address.look_at_four_addresses(tenant.slug)
    event = make_test_event(now=timezone.now())
    refused = _try_wrong_signature(tenant, event)
    yield refused
    if refused.verdict == Verdict.BAD:
        return
    try:
        with listening(tenant) as socket:
            posted_at = time.monotonic()
            accepted, reached = _try_right_signature(tenant, event, key)
            yield from accepted
            if not reached:
                return
            stored = find_event(tenant, event, within_s=STORED_WITHIN_S)
            yield _stored(stored)
            if stored is None:
                return
            try:
                ms = wait_for_frame(socket, stored.position, since=posted_at)
                yield Finding(
                    "websocket",
                    "Open pages",
                    Verdict.OK,
                    "The event came over a websocket by itself, so soon after it was sent.",
                    ms=ms,
                )
            except Deaf as deaf:
                yield Finding("websocket", "Open pages", Verdict.BAD, deaf.said, deaf.fix)
    except Deaf as deaf:
        yield Finding("websocket", "Open pages", Verdict.BAD, deaf.said, deaf.fix)
        accepted, reached = _try_right_signature(tenant, event, key)
        yield from accepted
        if not reached:
            return
        stored = find_event(tenant, event, within_s=STORED_WITHIN_S)
        yield _stored(stored)
        if stored is None:
            return
    yield _try_again(tenant, event, key)


def _try_wrong_signature(tenant: Tenant, event: TestEvent) -> Finding:
    title = "A wrong signature"
    try:
        reply = post(tenant, event, key="not the key of this company")
    except Unreachable as error:
        return Finding("wrong_signature", title, Verdict.BAD, error.said, error.fix)
    if reply.status == 401:
        return Finding("wrong_signature", title, Verdict.OK, "Refused with 401, as it must be.", ms=reply.ms)
    if 200 <= reply.status < 300:
        said = f"It was answered {reply.status}: something before the portal answers in its place."
        fix = "Have the proxy pass /ring/ on to the portal; nothing else may answer there."
        return Finding("wrong_signature", title, Verdict.BAD, said, fix, reply.ms)
    return Finding("wrong_signature", title, Verdict.BAD, *unexpected(reply, {401}), ms=reply.ms)


def _try_right_signature(tenant: Tenant, event: TestEvent, key: str) -> tuple[list[Finding], bool]:
    """The findings, and whether it is worth looking for the event."""
    title = "A webhook with the real signature"
    try:
        reply = post(tenant, event, key=key)
    except Unreachable as error:
        return [Finding("signature", title, Verdict.BAD, error.said, error.fix)], False
    if reply.status == 401:
        return [
            Finding(
                "signature",
                title,
                Verdict.BAD,
                "Refused with 401, although it was signed with the key stored here: its bytes or its X-Signature header "
                "were changed on the way.",
                "Have the proxy pass the body on byte for byte (no rewriting, no filter) and keep the X-Signature header.",
                reply.ms,
            )
        ], False
    if reply.status != 200:
        return [Finding("signature", title, Verdict.BAD, *unexpected(reply, {200}), ms=reply.ms)], False
    findings = [_speed(reply.ms)]
    clock = own_address.look_at_clock(reply, whose="the web server")
    return [*findings, *([clock] if clock is not None else [])], True


def _speed(ms: int) -> Finding:
    title = "A webhook with the real signature"
    if ms > ANSWER_WITHIN_MS:
        return Finding(
            "signature",
            title,
            Verdict.BAD,
            f"Taken, but only after {ms / 1000:.1f} s: Ring gives up after 5 s and sends again.",
            "See what is slow: the proxy, the disk under the database, or too few web processes.",
            ms,
        )
    if ms > SLOW_MS:
        return Finding(
            "signature",
            title,
            Verdict.WARN,
            f"Taken after {ms / 1000:.1f} s. Ring waits 5 s.",
            "See what is slow before there is load: the proxy, or the disk under the database.",
            ms,
        )
    return Finding("signature", title, Verdict.OK, "Taken with 200, in time: Ring waits 5 s.", ms=ms)


def _stored(stored: Event | None) -> Finding:
    title = "The event"
    if stored is None:
        return Finding(
            "event",
            title,
            Verdict.BAD,
            "The webhook was answered 200, but no event is in this worker’s database.",
            "Web process and worker must have the same DATABASE_URL.",
        )
    return Finding(
        "event",
        title,
        Verdict.OK,
        f"Stored at position {stored.position}, labelled as a test; customers do not see it.",
    )


def _try_again(tenant: Tenant, event: TestEvent, key: str) -> Finding:
    """Ring may deliver twice (contract 9.3)."""
    title = "The same delivery again"
    try:
        reply = post(tenant, event, key=key)
    except Unreachable as error:
        return Finding("again", title, Verdict.BAD, error.said, error.fix)
    count = Event.objects.for_tenant(tenant).filter(request_id=event.request_id).count()
    if reply.status == 200 and count == 1:
        return Finding("again", title, Verdict.OK, "Answered 200, and it is still one event.", ms=reply.ms)
    return Finding(
        "again",
        title,
        Verdict.BAD,
        f"Answered {reply.status}; there are {count} events of it.",
        "Tell the people who run this portal: this must not happen.",
        reply.ms,
    )
