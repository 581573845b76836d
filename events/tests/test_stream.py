"""The event stream: who may listen, what they get, what refuses them, and that nothing of it stays behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.utils import timezone

import pytest
import pytest_asyncio
from channels.testing import ApplicationCommunicator

from accounts.models import ApiToken, Membership
from events import hub, stream
from events.models import TenantPosition
from events.tests.conftest import body_of, post_webhook, session_cookie
from events.threads import in_thread
from portal.asgi import application
from tests.support.cast import TenantCast, make_cast, make_user


@dataclass
class Heard:
    """One block of a stream, as the HTML standard has it: fields and comments."""

    fields: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    @property
    def frame(self) -> dict[str, Any]:
        return dict(json.loads(self.fields["data"]))


class Listener:
    """Whoever reads a stream, straight from the ASGI application."""

    def __init__(self, communicator: ApplicationCommunicator) -> None:
        self.communicator = communicator
        self.status = 0
        self.headers: dict[str, str] = {}
        self.has_ended = False
        self._text = ""

    async def begin(self) -> None:
        start = await self.communicator.receive_output(timeout=10)
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}

    async def body(self) -> dict[str, Any]:
        """A refusal's document."""
        message = await self.communicator.receive_output(timeout=10)
        await self.communicator.wait()
        return dict(json.loads(message["body"]))

    async def block(self) -> Heard:
        while "\n\n" not in self._text:
            assert not self.has_ended, "The stream has ended"
            message = await self.communicator.receive_output(timeout=10)
            self._text += message["body"].decode()
            self.has_ended = not message["more_body"]
        block, _, self._text = self._text.partition("\n\n")
        heard = Heard()
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                heard.fields[name] = value.removeprefix(" ")
            else:
                heard.comments.append(value)
        return heard

    async def positions(self, count: int) -> list[int]:
        blocks = [await self.block() for _ in range(count)]
        assert all(block.fields["id"] == str(block.frame["position"]) for block in blocks)
        return [block.frame["position"] for block in blocks]

    async def hang_up(self) -> None:
        await self.communicator.send_input({"type": "http.disconnect"})
        await self.communicator.wait()


OpenStream = Callable[..., Awaitable[Listener]]


@pytest_asyncio.fixture
async def open_stream() -> AsyncIterator[OpenStream]:
    """Ask for a stream as a member (or with headers); its `retry` is read. All are hung up at the end."""
    opened: list[Listener] = []

    async def open_one(
        who: Membership | None = None,
        *,
        tenant: str = "acme",
        query: str = "",
        headers: dict[str, str] | None = None,
        method: str = "GET",
    ) -> Listener:
        given = dict(headers or {})
        if who is not None:
            given["cookie"] = await in_thread(session_cookie, who)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": f"/sse/t/{tenant}/events/",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        listener = Listener(ApplicationCommunicator(application, scope))
        opened.append(listener)
        await listener.communicator.send_input({"type": "http.request", "body": b""})
        await listener.begin()
        if listener.status == 200:
            assert (await listener.block()).fields == {"retry": "1000"}
        return listener

    yield open_one
    for listener in opened:
        if not listener.communicator.future.done():
            await listener.hang_up()


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own look at the database comes at once instead of every two seconds."""
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.02)


async def press(cast: TenantCast, *requests: int, tenant: str = "acme") -> None:
    for number in requests:
        body = body_of("button_press", device=cast.ada_camera, request=number)
        assert (await post_webhook(body, tenant=tenant)).status == 200


async def bearer(cast: TenantCast, *scopes: str) -> dict[str, str]:
    _, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="t", scopes=list(scopes))
    return {"authorization": f"Bearer {token}"}


# --- what comes over it -----------------------------------------------------------------------------------------


async def test_the_same_frames_as_the_websocket_with_their_positions_as_ids(
    cast: TenantCast, open_stream: OpenStream, open_socket: Any
):
    listener, socket = await open_stream(cast.owner), await open_socket(cast.owner)
    assert listener.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (listener.headers["cache-control"], listener.headers["x-accel-buffering"]) == ("no-store", "no")
    assert "set-cookie" not in listener.headers

    await press(cast, 1)

    heard = await listener.block()
    assert heard.fields.keys() == {"id", "data"} and heard.fields["id"] == "1"
    assert heard.frame == await socket.receive_json_from(timeout=10)


async def test_replay_then_what_comes_and_last_event_id_counts_before_after(
    cast: TenantCast, open_stream: OpenStream
):
    await press(cast, 1, 2, 3, 4)
    everything = await open_stream(cast.owner, query="after=0")
    resumed = await open_stream(cast.owner, query="after=0", headers={"last-event-id": "3"})
    from_now = await open_stream(cast.owner)
    ahead = await open_stream(cast.owner, query="after=900")
    assert await everything.positions(4) == [1, 2, 3, 4]
    assert await resumed.positions(1) == [4]
    await press(cast, 5)
    for listener in (everything, resumed, from_now, ahead):
        assert await listener.positions(1) == [5]


async def test_who_comes_back_after_some_were_deleted_is_told_and_keeps_the_place(
    cast: TenantCast, open_stream: OpenStream
):
    await press(cast, 1, 2, 3)
    await in_thread(TenantPosition.objects.filter(pk=cast.tenant.pk).update, expired=2)
    listener = await open_stream(cast.owner, query="after=1")
    heard = await listener.block()
    assert (heard.frame, heard.fields["id"]) == ({"type": "expired", "position": 2}, "1")
    assert await listener.positions(2) == [2, 3]


async def test_customers_get_their_own(cast: TenantCast, open_stream: OpenStream):
    ben, ada = await open_stream(cast.ben, query="after=0"), await open_stream(cast.ada, query="after=0")
    await press(cast, 1)
    body = body_of("motion_detected", device=cast.ben_camera, request=2)
    assert (await post_webhook(body)).status == 200
    await press(cast, 3)
    assert await ada.positions(2) == [1, 3]
    assert await ben.positions(1) == [2]


async def test_nothing_of_one_tenant_reaches_another(cast: TenantCast, open_stream: OpenStream):
    other = await in_thread(make_cast, "other")
    here = await open_stream(cast.owner)
    there = await open_stream(other.owner, tenant="other")
    await press(cast, 1)
    await press(other, 2, tenant="other")
    for listener, camera in ((here, cast.ada_camera), (there, other.ada_camera)):
        assert (await listener.block()).frame["event"]["device"]["id"] == str(camera.public_id)


async def test_a_heartbeat_comes_as_a_comment_and_as_an_event_of_its_own(
    cast: TenantCast, open_stream: OpenStream, monkeypatch: pytest.MonkeyPatch
):
    assert stream.HEARTBEAT_EVERY_S == 15
    monkeypatch.setattr(stream, "HEARTBEAT_EVERY_S", 0.02)
    listener = await open_stream(cast.owner)
    for _ in range(2):
        heard = await listener.block()
        assert heard.comments == [" still here"]
        # No id: where the reader was stays remembered.
        assert heard.fields == {"event": "heartbeat", "data": '{"type":"heartbeat"}'}


async def test_a_reader_that_stands_still_keeps_no_more_than_its_mailbox(
    cast: TenantCast, open_stream: OpenStream, monkeypatch: pytest.MonkeyPatch
):
    """`send` that does not return holds the reader up; what comes meanwhile is read from the database later."""
    monkeypatch.setattr(hub, "MAILBOX_FRAMES", 4)
    go_on = asyncio.Event()
    send_text = stream._send_text

    async def held_up(send: Any, text: str, *, more: bool = True) -> None:
        if text.startswith("id:"):
            await go_on.wait()
        await send_text(send, text, more=more)

    monkeypatch.setattr(stream, "_send_text", held_up)
    slow = await open_stream(cast.owner)
    quick = await open_stream(cast.ada)
    [mailbox] = hub.hubs.get()._feeds[cast.tenant.pk]._staff
    await press(cast, *range(30))
    assert len(mailbox._frames) <= 4
    go_on.set()
    assert await slow.positions(30) == await quick.positions(30) == list(range(1, 31))


# --- who may listen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "last_event_id"),
    [("after=x", ""), ("after=", ""), ("after=-1", ""), ("after=1&after=2", ""), ("after=%F0", ""),
     ("after=" + "9" * 30, ""), ("", "x"), ("after=1", "1.5"), ("after=1", "²")],
)  # fmt: skip
async def test_a_malformed_position_is_400(
    cast: TenantCast, open_stream: OpenStream, query: str, last_event_id: str
):
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    listener = await open_stream(cast.owner, query=query, headers=headers)
    assert listener.status == 400
    assert (await listener.body())["error"] == "bad_position"


async def test_a_malformed_revision_is_400_and_another_than_the_tenants_makes_a_page_look_again(
    cast: TenantCast, open_stream: OpenStream
):
    refused = await open_stream(cast.owner, query="after=0&revision=x")
    assert (refused.status, (await refused.body())["error"]) == (400, "bad_revision")
    listener = await open_stream(cast.owner, query="after=0&revision=7")
    assert (await listener.block()).frame == {"type": "changed"}


async def test_a_token_in_the_address_is_refused_however_good(cast: TenantCast, open_stream: OpenStream):
    secret = (await bearer(cast, "read"))["authorization"].removeprefix("Bearer ")
    for name in ("token", "access_token", "authorization"):
        listener = await open_stream(query=f"{name}={secret}")
        answer = await listener.body()
        assert (listener.status, answer["error"]) == (400, "unknown_parameter")
        assert "Authorization: Bearer" in answer["detail"] and secret not in str(answer)


async def test_each_refusal_has_its_status(cast: TenantCast, open_stream: OpenStream):
    other = await in_thread(make_cast, "other")
    outsider = Membership(tenant=other.tenant, user=await in_thread(make_user, "outsider@nowhere.example"))
    read, write = await bearer(cast, "read"), await bearer(cast, "write")
    asked: list[tuple[dict[str, Any], int, str]] = [
        ({}, 401, "not_authenticated"),
        ({"headers": {"authorization": "Bearer ppt_made-up"}}, 401, "bad_token"),
        # A bad token is not saved by a good session.
        ({"who": cast.owner, "headers": {"authorization": "Bearer ppt_made-up"}}, 401, "bad_token"),
        ({"headers": write}, 403, "scope"),
        ({"headers": read, "tenant": "other"}, 404, "not_found"),
        ({"headers": read, "tenant": "no-such-tenant"}, 404, "not_found"),
        ({"who": outsider}, 404, "not_found"),
        ({"who": other.owner}, 404, "not_found"),
        ({"who": cast.owner, "tenant": "no-such-tenant"}, 404, "not_found"),
        ({"who": cast.owner, "method": "POST"}, 405, "method_not_allowed"),
    ]
    for given, status, code in asked:
        listener = await open_stream(**given)
        answer = await listener.body()
        assert (listener.status, answer["error"]) == (status, code), given
        assert listener.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in listener.headers) == (status == 401)


async def test_a_page_of_another_site_is_refused_and_a_program_is_not(
    cast: TenantCast, open_stream: OpenStream, settings: LazySettings
):
    settings.ALLOWED_HOSTS = ["portal.example"]
    refused: list[dict[str, str]] = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ]
    for headers in refused:
        listener = await open_stream(cast.owner, headers=headers)
        assert (listener.status, (await listener.body())["error"]) == (403, "another_site"), headers
    own: list[dict[str, str]] = [
        {},
        {"origin": "https://portal.example"},
        {"sec-fetch-site": "same-origin"},
    ]
    for headers in own:
        assert (await open_stream(cast.owner, headers=headers)).status == 200, headers
    token = await bearer(cast, "read")
    assert (await open_stream(headers={**token, "origin": "https://evil.example"})).status == 200


async def test_a_database_that_is_away_is_503_and_come_back(
    cast: TenantCast, open_stream: OpenStream, monkeypatch: pytest.MonkeyPatch
):
    cookie = {"cookie": await in_thread(session_cookie, cast.owner)}

    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError

    monkeypatch.setattr(stream, "find_visitor", fail)
    listener = await open_stream(headers=cookie)
    assert (listener.status, listener.headers["retry-after"]) == (503, "1")
    assert (await listener.body())["error"] == "unavailable"


# --- until when -----------------------------------------------------------------------------------------------------


async def end_of(listener: Listener) -> dict[str, Any]:
    heard = await listener.block()
    assert heard.fields["event"] == "error" and "id" not in heard.fields
    assert listener.has_ended
    await listener.communicator.wait()
    return heard.frame


async def test_it_ends_with_a_word_when_its_person_may_no_longer_listen(
    cast: TenantCast, open_stream: OpenStream, look_often: None
):
    ada, owner = await open_stream(cast.ada), await open_stream(cast.owner)
    await in_thread(cast.ada.delete)
    frame = await end_of(ada)
    assert (frame["type"], frame["code"]) == ("error", "not_allowed")
    await in_thread(Session.objects.all().delete)
    assert (await end_of(owner))["code"] == "not_allowed"


async def test_it_ends_when_its_token_is_revoked(cast: TenantCast, open_stream: OpenStream, look_often: None):
    row, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="t", scopes=["read"])
    listener = await open_stream(headers={"authorization": f"Bearer {token}"})
    row.revoked_at = timezone.now()
    await in_thread(row.save)
    assert (await end_of(listener))["code"] == "not_allowed"


async def test_a_mistake_of_ours_ends_it_with_come_back(
    cast: TenantCast, open_stream: OpenStream, look_often: None, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **kwargs: object) -> None:
        raise LookupError

    listener = await open_stream(cast.owner)
    with monkeypatch.context() as patched:
        patched.setattr(hub, "_read_news", fail)
        await press(cast, 1)
        assert (await end_of(listener))["code"] == "try_again"
    again = await open_stream(cast.owner, headers={"last-event-id": "0"})
    assert await again.positions(1) == [1]


def at_work() -> list[str]:
    names = [task.get_coro().__name__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    return sorted(name for name in names if name in ("_send_all", "_hung_up", "_beat"))


async def test_hanging_up_frees_everything(cast: TenantCast, open_stream: OpenStream, look_often: None):
    listeners = [await open_stream(cast.owner) for _ in range(3)]
    own_hub = hub.hubs.get()
    assert len(own_hub._feeds[cast.tenant.pk]._staff) == 3
    assert at_work() == ["_beat"] * 3 + ["_hung_up"] * 3 + ["_send_all"] * 3
    tending = own_hub._tending
    assert tending is not None
    for listener in listeners:
        await listener.hang_up()
    assert at_work() == []
    await asyncio.wait_for(tending, 5)
    assert not own_hub._feeds
