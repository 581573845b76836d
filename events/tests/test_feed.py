"""The websocket: who may listen, what they get, in which order, and until when."""

import asyncio
import json
import runpy
import threading
from datetime import timedelta
from typing import Any

from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.utils import timezone

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator

from accounts.models import ApiToken, Membership, Role
from accounts.signals import ring_account_claimed
from devices.models import Device
from devices.services import remove_device, withdraw_devices
from events import admission, broadcast, hub
from events.listing import feed_standing
from events.models import Event
from events.tests.conftest import OpenSocket, body_of, post_webhook, session_cookie
from events.threads import in_thread
from tests.support.cast import TenantCast, make_cast, make_user


async def press(device: Device, request: int | str, *, tenant: str = "acme") -> None:
    answer = await post_webhook(body_of("button_press", device=device, request=request), tenant=tenant)
    assert answer.status == 200


async def positions(socket: WebsocketCommunicator, count: int) -> list[int]:
    frames = [await socket.receive_json_from(timeout=10) for _ in range(count)]
    assert {frame["type"] for frame in frames} <= {"event"}
    return [frame["position"] for frame in frames]


async def closed_with(socket: WebsocketCommunicator) -> int:
    while True:
        message = await socket.receive_output(timeout=10)
        if message["type"] == "websocket.close":
            return int(message["code"])


async def come_back_until(open_socket: OpenSocket, who: Membership, count: int) -> list[int]:
    """What a browser does: whenever its socket is closed for a while, it opens the next one where it was."""
    got: list[int] = []
    while True:
        socket = await open_socket(who, after=got[-1] if got else 0)
        while len(got) < count:
            message = await socket.receive_output(timeout=10)
            if message["type"] == "websocket.close":
                assert message["code"] == 1013
                break
            got.append(json.loads(message["text"])["position"])
        else:
            return got


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own look at the database comes at once instead of every two seconds."""
    monkeypatch.setattr(hub, "LOOK_EVERY_S", 0.02)


# --- what comes over it -----------------------------------------------------------------------------------------


async def test_event_reaches_the_browser_in_under_a_second(cast: TenantCast, open_socket: OpenSocket):
    socket = await open_socket(cast.owner)
    await press(cast.ada_camera, 1)
    frame = await socket.receive_json_from(timeout=20)

    event = await in_thread(Event.objects.get)
    assert frame == {
        "type": "event",
        "position": 1,
        "event": {
            "id": str(event.public_id),
            "event_type": "button_press",
            "sub_type": "",
            "occurred_at": "2026-09-21T14:13:20+00:00",
            "position": 1,
            "device": {"id": str(cast.ada_camera.public_id), "name": "Front Door"},
            "title": "Someone at the front door",
            "icon": "bell-ring",
            "tone": "ring",
            "kind": "doorbell",
            "is_test": False,
            "request_id": event.request_id,
            "url": f"/t/acme/events/{event.public_id}/",
            "picture": None,
        },
    }


async def test_event_of_an_unknown_device_has_none(cast: TenantCast, open_socket: OpenSocket):
    socket = await open_socket(cast.owner)
    await post_webhook(body_of("motion_detected"))
    frame = await socket.receive_json_from(timeout=20)
    assert frame["event"]["device"] is None
    assert "ava1." not in json.dumps(frame)


async def test_browser_that_comes_back_gets_what_it_missed_and_then_what_comes(
    cast: TenantCast, open_socket: OpenSocket
):
    for number in range(5):
        await press(cast.ada_camera, number)
    socket = await open_socket(cast.owner, after=2)
    assert await positions(socket, 3) == [3, 4, 5]
    await press(cast.ada_camera, 5)
    assert await positions(socket, 1) == [6]


async def test_after_zero_is_everything_and_no_after_is_from_now_on(
    cast: TenantCast, open_socket: OpenSocket
):
    for number in range(3):
        await press(cast.ada_camera, number)
    everything = await open_socket(cast.owner, after=0)
    from_now = await open_socket(cast.owner)
    ahead = await open_socket(cast.owner, after=900)
    assert await positions(everything, 3) == [1, 2, 3]
    await press(cast.ada_camera, 3)
    for socket in (everything, from_now, ahead):
        assert await positions(socket, 1) == [4]


async def test_every_socket_gets_each_position_once_in_order(cast: TenantCast, open_socket: OpenSocket):
    sockets = [await open_socket(cast.owner, after=0) for _ in range(5)]
    late: list[WebsocketCommunicator] = []
    for burst in range(4):
        await asyncio.gather(*(press(cast.ada_camera, f"{burst}-{number}") for number in range(15)))
        late.append(await open_socket(cast.owner, after=0))
    for socket in sockets + late:
        assert await positions(socket, 60) == list(range(1, 61))


async def test_replay_longer_than_a_page_has_no_seam(
    cast: TenantCast, open_socket: OpenSocket, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub, "PAGE", 7)
    await asyncio.gather(*(press(cast.ada_camera, number) for number in range(40)))
    socket = await open_socket(cast.owner, after=3)
    assert await positions(socket, 37) == list(range(4, 41))
    await asyncio.gather(*(press(cast.ada_camera, f"more-{number}") for number in range(20)))
    assert await positions(socket, 20) == list(range(41, 61))


async def test_overflowing_mailbox_catches_up_from_the_database(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    """A reader that stands still while far more comes in than its mailbox holds still gets all of it, in order."""
    monkeypatch.setattr(hub, "MAILBOX_FRAMES", 4)
    visitor = admission.Visitor(cast.tenant.pk, True, membership_pk=cast.owner.pk)
    own_hub = hub.hubs.get()
    mailbox, last = await own_hub.join(visitor)
    frames = mailbox.frames(last)
    got: list[int] = []

    async def read(count: int) -> None:
        while len(got) < count:
            got.append(json.loads((await asyncio.wait_for(anext(frames), 10)).text)["position"])

    await press(cast.ada_camera, "first")
    await read(1)
    for burst in range(3):
        await asyncio.gather(*(press(cast.ada_camera, f"{burst}-{number}") for number in range(20)))
        # Another reader that is up to date proves that the hub has handed out all of this burst.
        other, _ = await own_hub.join(visitor)
        await asyncio.wait_for(anext(other.frames(20 * (burst + 1))), 10)
        own_hub.leave(other)
    await read(61)
    assert got == list(range(1, 62))
    await press(cast.ada_camera, "last")
    await read(62)
    assert got[-1] == 62
    own_hub.leave(mailbox)


async def test_reader_who_stands_still_while_many_pictures_come_is_told_to_read_again(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub, "MAILBOX_PICTURES", 3)
    visitor = admission.Visitor(cast.tenant.pk, True, membership_pk=cast.owner.pk)
    own_hub = hub.hubs.get()
    mailbox, last = await own_hub.join(visitor)
    for number in range(4):
        mailbox.show(f"picture {number}")
    mailbox.show("picture 4")
    frames = mailbox.frames(last)
    assert [(await anext(frames)).text for _ in range(2)] == [hub.CHANGED, "picture 4"]
    own_hub.leave(mailbox)


async def test_lost_pokes_lose_nothing(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, monkeypatch: pytest.MonkeyPatch
):
    socket = await open_socket(cast.owner)

    async def lose(tenant_ids: object) -> None:
        """Every message of the channel layer is lost."""

    monkeypatch.setattr(broadcast, "announce", lose)
    for number in range(6):
        await press(cast.ada_camera, number)
    assert await positions(socket, 6) == [1, 2, 3, 4, 5, 6]


async def test_doubled_and_foreign_pokes_send_nothing(cast: TenantCast, open_socket: OpenSocket):
    socket = await open_socket(cast.owner)
    await press(cast.ada_camera, 1)
    assert await positions(socket, 1) == [1]
    for _ in range(5):
        await broadcast.announce([cast.tenant.pk])
    await get_channel_layer().group_send(
        broadcast.group_of(cast.tenant.pk), {"type": "events.recorded", "tenant": -1}
    )
    await press(cast.ada_camera, 2)
    assert await positions(socket, 1) == [2]


async def test_channel_layer_that_is_away_does_not_fail_the_webhook(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, monkeypatch: pytest.MonkeyPatch
):
    socket = await open_socket(cast.owner)

    async def refuse(group: str, message: dict[str, Any]) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(get_channel_layer(), "group_send", refuse, raising=False)
    await press(cast.ada_camera, 1)
    assert await positions(socket, 1) == [1]


async def test_channel_layer_that_is_away_refuses_no_socket(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(prefix: str = "") -> str:
        raise ConnectionRefusedError

    monkeypatch.setattr(get_channel_layer(), "new_channel", refuse, raising=False)
    socket = await open_socket(cast.owner)
    await press(cast.ada_camera, 1)
    assert await positions(socket, 1) == [1]


@pytest.mark.parametrize("broken", ["_read_news", "_read_standings", "still_admitted"])
async def test_mistake_of_ours_closes_sockets_that_come_back(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, monkeypatch: pytest.MonkeyPatch, broken: str
):
    """Whatever breaks, nobody goes on listening unwatched, and the next socket is served again."""

    def fail(*args: object, **kwargs: object) -> None:
        raise LookupError(broken)

    socket = await open_socket(cast.owner)
    with monkeypatch.context() as patched:
        patched.setattr(hub, broken, fail)
        await press(cast.ada_camera, 1)
        assert await closed_with(socket) == 1013
    await press(cast.ada_camera, 2)
    assert await come_back_until(open_socket, cast.owner, 2) == [1, 2]


async def test_joining_while_the_hub_falls_asleep_starts_it_again(cast: TenantCast, look_often: None):
    """Between the hub's last look and the end of its task there is a moment; whoever joins in it is served."""
    visitor = admission.Visitor(cast.tenant.pk, True, membership_pk=cast.owner.pk)
    own_hub = hub.hubs.get()
    mailbox, _ = await own_hub.join(visitor)
    own_hub.leave(mailbox)
    asleep = own_hub._tending
    assert asleep is not None
    while not asleep.done():  # noqa: ASYNC110 - an event would come after the callbacks: too late
        await asyncio.sleep(0)
    mailbox, last = await own_hub.join(visitor)
    await asyncio.sleep(0)
    frames = mailbox.frames(last)
    await press(cast.ada_camera, 1)
    assert json.loads((await asyncio.wait_for(anext(frames), 10)).text)["position"] == 1
    assert own_hub._tending is not None
    assert not own_hub._tending.done()
    own_hub.leave(mailbox)


async def test_a_customer_who_comes_while_events_are_read_for_staff_alone_misses_none(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    staff = admission.Visitor(cast.tenant.pk, True, membership_pk=cast.owner.pk)
    customer = admission.Visitor(cast.tenant.pk, False, user_id=cast.ada.user_id, membership_pk=cast.ada.pk)
    read_news, is_reading, go_on = hub._read_news, threading.Event(), threading.Event()

    def read_late(*args: Any, **kwargs: Any) -> Any:
        is_reading.set()
        assert go_on.wait(10)
        return read_news(*args, **kwargs)

    monkeypatch.setattr(hub, "_read_news", read_late)
    own_hub = hub.hubs.get()
    own, last = await own_hub.join(staff)
    try:
        own_hub._feeds[cast.tenant.pk].wake.set()
        assert await asyncio.to_thread(is_reading.wait, 10)
        late, _ = await own_hub.join(customer)
        frames = late.frames(last)
        late.say("replayed")
        assert (await asyncio.wait_for(anext(frames), 10)).text == "replayed"
        await press(cast.ada_camera, 1)
    finally:
        go_on.set()

    assert json.loads((await asyncio.wait_for(anext(frames), 10)).text)["position"] == 1
    assert json.loads((await asyncio.wait_for(anext(own.frames(last)), 10)).text)["position"] == 1
    own_hub.leave(own)
    own_hub.leave(late)


async def test_earlier_events_of_an_account_just_claimed_make_pages_look_again(
    cast: TenantCast, open_socket: OpenSocket
):
    document = body_of("motion_detected", request=1)
    await post_webhook(document)
    socket = await open_socket(cast.ada)

    def claim() -> None:
        account = cast.ada_account
        account.ring_id = "ava1.ring.account.AAAABBBBCCCC"
        account.save(update_fields=["ring_id"])
        ring_account_claimed.send(sender=type(account), account=account)

    await in_thread(claim)
    assert await socket.receive_json_from(timeout=20) == {"type": "changed"}
    assert await in_thread(Event.objects.visible_to(cast.ada).count) == 1


async def test_device_that_came_went_or_was_unlinked_makes_pages_look_again(
    cast: TenantCast, open_socket: OpenSocket
):
    await press(cast.ada_camera, 1)
    socket = await open_socket(cast.ada)
    await in_thread(lambda: remove_device(device=cast.ada_camera, at=timezone.now()))
    assert await socket.receive_json_from(timeout=20) == {"type": "changed"}
    await in_thread(lambda: withdraw_devices(account=cast.ben_account, now=timezone.now()))
    assert await socket.receive_json_from(timeout=20) == {"type": "changed"}


async def test_page_made_before_a_change_hears_of_it_though_its_socket_opens_after(
    cast: TenantCast, open_socket: OpenSocket
):
    await press(cast.ada_camera, 1)
    before = (await in_thread(feed_standing, cast.ada))["revision"]
    await in_thread(lambda: remove_device(device=cast.ada_camera, at=timezone.now()))
    after = (await in_thread(feed_standing, cast.ada))["revision"]

    stale = await open_socket(cast.ada, revision=before)
    assert await stale.receive_json_from(timeout=20) == {"type": "changed"}
    fresh = await open_socket(cast.ada, revision=after)
    await press(cast.ben_camera, 2)
    await press(cast.ada_camera, 3)
    frame = await fresh.receive_json_from(timeout=20)
    assert (frame["type"], frame["position"]) == ("event", 3)


async def test_revision_that_is_none_is_refused(cast: TenantCast, open_socket: OpenSocket):
    socket = await open_socket(cast.owner, revision="new")
    frame = await socket.receive_json_from(timeout=20)
    assert frame["type"] == "error" and frame["code"] == "bad_revision"
    assert await closed_with(socket) == 4400


async def test_change_in_another_process_is_found_by_looking(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, monkeypatch: pytest.MonkeyPatch
):
    await press(cast.ada_camera, 1)
    socket = await open_socket(cast.owner)

    async def lose(tenant_ids: object) -> None:
        """Another process on the embedded default reaches nobody here."""

    monkeypatch.setattr(broadcast, "announce", lose)
    await in_thread(broadcast.announce_change_on_commit, cast.tenant.pk)
    assert await socket.receive_json_from(timeout=20) == {"type": "changed"}


# --- who may listen -----------------------------------------------------------------------------------------------


async def test_customer_gets_own_events_only_and_staff_get_all(cast: TenantCast, open_socket: OpenSocket):
    ada, ben, operator = [await open_socket(member) for member in (cast.ada, cast.ben, cast.operator)]
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)
    await post_webhook(body_of("motion_detected"))  # nobody's, yet
    await press(cast.ada_camera, 3)
    assert await positions(operator, 4) == [1, 2, 3, 4]
    assert await positions(ada, 2) == [1, 4]
    assert await positions(ben, 1) == [2]
    assert await ben.receive_nothing()


async def test_customers_replay_is_their_own_too(cast: TenantCast, open_socket: OpenSocket):
    await press(cast.ada_camera, 1)
    await press(cast.ben_camera, 2)
    await press(cast.ben_camera, 3)
    socket = await open_socket(cast.ben, after=0)
    assert await positions(socket, 2) == [2, 3]


async def test_nothing_of_one_tenant_reaches_another(cast: TenantCast, open_socket: OpenSocket):
    other = await in_thread(make_cast, "other")
    here = await open_socket(cast.owner, after=0)
    there = await open_socket(other.owner, tenant="other", after=0)
    await press(cast.ada_camera, 1)
    await press(other.ada_camera, 2, tenant="other")
    assert (await here.receive_json_from(timeout=20))["event"]["device"]["id"] == str(
        cast.ada_camera.public_id
    )
    assert (await there.receive_json_from(timeout=20))["event"]["device"]["id"] == str(
        other.ada_camera.public_id
    )
    assert await here.receive_nothing()
    assert await there.receive_nothing()


async def test_strangers_are_refused_before_the_handshake_ends(cast: TenantCast, open_socket: OpenSocket):
    other = await in_thread(make_cast, "other")
    outsider = Membership(tenant=other.tenant, user=await in_thread(make_user, "outsider@nowhere.example"))
    for who, tenant in (
        (None, "acme"),
        (outsider, "acme"),
        (other.owner, "acme"),
        (cast.owner, "no-such-tenant"),
    ):
        socket = await open_socket(who, tenant=tenant)
        assert not socket.accepted


async def test_deactivated_person_is_refused(cast: TenantCast, open_socket: OpenSocket):
    cast.owner.user.is_active = False
    await in_thread(cast.owner.user.save)
    socket = await open_socket(cast.owner)
    assert not socket.accepted


async def test_page_of_another_site_is_refused(
    cast: TenantCast, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
):
    settings.ALLOWED_HOSTS = ["portal.example"]
    # It is set up already; once more would take away the suite's own watch over what is logged.
    monkeypatch.setattr("django.utils.log.configure_logging", lambda *_: None)
    started = runpy.run_path(str(settings.BASE_DIR / "portal" / "asgi.py"))["application"]
    cookie = (b"cookie", (await in_thread(session_cookie, cast.owner)).encode())
    _, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="t", scopes=["read"])
    for headers, accepted in (
        ([cookie, (b"origin", b"https://portal.example")], True),
        ([cookie, (b"origin", b"https://evil.example")], False),
        ([cookie, (b"origin", b"https://portal.example.evil.example")], False),
        ([cookie, (b"origin", b"null")], False),
        ([cookie], False),
        # A program's: no page can make a browser send this.
        ([(b"authorization", f"Bearer {token}".encode())], True),
    ):
        socket = WebsocketCommunicator(started, "/ws/t/acme/events/", headers=headers)
        assert (await socket.connect(timeout=20))[0] is accepted, headers
        if accepted:
            await socket.disconnect()


async def test_token_listens_to_its_tenant_only(cast: TenantCast, open_socket: OpenSocket):
    await in_thread(make_cast, "other")
    _, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="t", scopes=["read"])
    headers = {"authorization": f"Bearer {token}"}
    socket = await open_socket(headers=headers, after=0)
    await press(cast.ada_camera, 1)
    assert await positions(socket, 1) == [1]
    assert not (await open_socket(headers=headers, tenant="other")).accepted


async def test_token_without_the_read_scope_or_past_its_time_is_refused(
    cast: TenantCast, open_socket: OpenSocket
):
    _, write_only = await in_thread(ApiToken.issue, tenant=cast.tenant, name="w", scopes=["write"])
    row, old = await in_thread(ApiToken.issue, tenant=cast.tenant, name="o", scopes=["read"])
    row.expires_at = timezone.now() - timedelta(seconds=1)
    await in_thread(row.save)
    for secret in (write_only, old, "ppt_made-up", ""):
        assert not (await open_socket(headers={"authorization": f"Bearer {secret}"})).accepted


async def test_a_bad_token_is_not_saved_by_a_good_session(cast: TenantCast, open_socket: OpenSocket):
    assert not (await open_socket(cast.owner, headers={"authorization": "Bearer ppt_made-up"})).accepted


# --- until when -----------------------------------------------------------------------------------------------------


async def _leave(cast: TenantCast) -> None:
    await in_thread(cast.ada.delete)


async def _sign_out(cast: TenantCast) -> None:
    await in_thread(lambda: Session.objects.all().delete())


async def _change_password(cast: TenantCast) -> None:
    cast.ada.user.set_password("another password")
    await in_thread(cast.ada.user.save)


async def _deactivate(cast: TenantCast) -> None:
    cast.ada.user.is_active = False
    await in_thread(cast.ada.user.save)


async def _change_role(cast: TenantCast) -> None:
    cast.ada.role = Role.OPERATOR
    await in_thread(cast.ada.save)


@pytest.mark.parametrize("happens", [_leave, _sign_out, _change_password, _deactivate, _change_role])
async def test_open_socket_ends_when_its_person_may_no_longer_listen(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, happens: Any
):
    socket = await open_socket(cast.ada)
    await happens(cast)
    assert await closed_with(socket) == 4403


async def test_revocation_is_looked_for_well_within_five_seconds():
    assert hub.LOOK_EVERY_S <= 2.5


async def test_a_new_secret_key_ends_no_socket_and_signs_nobody_out(
    cast: TenantCast, open_socket: OpenSocket, look_often: None, settings: LazySettings
):
    cookie = await in_thread(session_cookie, cast.ada)
    before = await open_socket(headers={"cookie": cookie})
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another long and random one"
    after = await open_socket(headers={"cookie": cookie})
    await press(cast.ada_camera, 1)
    assert await positions(before, 1) == await positions(after, 1) == [1]
    assert await in_thread(Session.objects.count) == 1

    settings.SECRET_KEY_FALLBACKS = []  # the old key counts no longer
    assert await closed_with(after) == 4403
    assert (await open_socket(headers={"cookie": cookie})).code == 4403


async def test_open_socket_ends_when_its_token_is_revoked(
    cast: TenantCast, open_socket: OpenSocket, look_often: None
):
    row, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="t", scopes=["read"])
    socket = await open_socket(headers={"authorization": f"Bearer {token}"})
    row.revoked_at = timezone.now()
    await in_thread(row.save)
    assert await closed_with(socket) == 4403


async def test_others_stay_when_one_has_to_go(cast: TenantCast, open_socket: OpenSocket, look_often: None):
    ada, owner = await open_socket(cast.ada), await open_socket(cast.owner)
    await in_thread(cast.ada.delete)
    assert await closed_with(ada) == 4403
    await press(cast.ada_camera, 1)
    assert await positions(owner, 1) == [1]


# --- what may be said to it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", "9" * 30, "%F0", "1&after=2"])
async def test_bad_position_is_explained(cast: TenantCast, open_socket: OpenSocket, after: str):
    socket = await open_socket(cast.owner, after=after)
    frame = await socket.receive_json_from(timeout=20)
    assert frame["type"] == "error" and frame["code"] == "bad_position" and "position" in frame["detail"]
    assert await closed_with(socket) == 4400


async def test_ping_is_answered_and_other_talk_ignored(cast: TenantCast, open_socket: OpenSocket):
    socket = await open_socket(cast.owner)
    for text in ("hello", "[]", '{"type":"event"}', "[" * 4000, '{"type":"ping"}'):
        await socket.send_to(text_data=text)
    assert await socket.receive_json_from(timeout=20) == {"type": "pong"}
    assert await socket.receive_nothing()


async def test_long_binary_or_endless_talk_ends_the_socket(cast: TenantCast, open_socket: OpenSocket):
    long = await open_socket(cast.owner)
    await long.send_to(text_data="x" * 5000)
    assert await closed_with(long) == 1009
    binary = await open_socket(cast.owner)
    await binary.send_to(bytes_data=b"x")
    assert await closed_with(binary) == 1009
    endless = await open_socket(cast.owner)
    for _ in range(40):
        await endless.input_queue.put({"type": "websocket.receive", "text": "{}"})
    assert await closed_with(endless) == 1008


async def test_unknown_websocket_address_is_refused(transactional_db: None):
    from portal.asgi import application

    for path in ("/ws/", "/ws/t/acme/", "/anything"):
        socket = WebsocketCommunicator(application, path, headers=[(b"origin", b"http://testserver")])
        assert (await socket.connect(timeout=20))[0] is False


async def test_hub_leaves_nothing_running_when_all_have_gone(
    cast: TenantCast, open_socket: OpenSocket, look_often: None
):
    socket = await open_socket(cast.owner)
    await socket.disconnect()
    own_hub = hub.hubs.get()
    assert own_hub._tending is not None and own_hub._listening is not None
    listening = own_hub._listening
    await asyncio.wait_for(own_hub._tending, 5)
    await asyncio.wait([listening], timeout=5)
    ended = hub.hubs.get()
    assert not ended._feeds and ended._tending is None and ended._listening is None
    again = await open_socket(cast.owner)
    await press(cast.ada_camera, 1)
    assert await positions(again, 1) == [1]
