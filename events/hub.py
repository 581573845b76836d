"""
One hub in each process stands between the database and the open event sockets.

It listens to one channel for all its tenants, reads each new event once, encodes it once, and writes it to every socket that
may see it and has room; the others find it in their mailbox. Mailboxes are bounded: a socket that cannot keep up loses its place
in the fan-out, not its events, and catches up from the database, exactly as one that has just connected does. Every two seconds
the hub looks for itself whether it has missed anything, and whether everybody may still listen.

What a socket gets is in strict order of `position`, each event once. That rests on one promise of `events.services`:
positions of a tenant become visible in their order, without holes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

import orjson
from channels.layers import get_channel_layer

from devices.grants import Capability, grantees_of
from events import awaited
from events.admission import Rights, Visitor, rights_of, still_admitted
from events.awaited import Awaited
from events.broadcast import GIVE_UP_AFTER_S, LAYER_ERRORS, PICTURED, group_of
from events.frames import frame_for, picture_frame_for
from events.lines import Line, text_frame
from events.models import Event, TenantPosition
from events.threads import PerLoop, in_thread
from portal.walls import tenant_scope

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
# So long after news the next is waited for: what comes meanwhile is read, and written to each socket, at once.
BREATH_S = 0.02
PAGE = 200
MAILBOX_FRAMES = 256
MAILBOX_PICTURES = 64

CLOSE_NOT_ALLOWED = 4403
CLOSE_TRY_AGAIN = 1013
CHANGED = '{"type":"changed"}'
RIGHTS = '{"type":"rights"}'


@dataclass(frozen=True)
class Frame:
    """
    One event as it goes over the wire, and the people besides the tenant's staff who may have it now; or a notice.

    `position` is where its reader is once they have it: a notice leaves them where they were.
    """

    position: int
    text: str
    readers: frozenset[int] = frozenset()

    @cached_property
    def data(self) -> bytes:
        """The frame of a websocket, the same for every socket."""
        return text_frame(self.text)


@dataclass(frozen=True)
class Standing:
    """Where a tenant is: the last position given out, and how often older rows have changed."""

    last: int = 0
    revision: int = 0
    # The greatest position deleted for its age; that one was is no news to whoever has it.
    expired: int = field(default=0, compare=False)


class Mailbox:
    """
    What waits to be sent to one socket. `closed` holds the close code once the socket must end, `expired` the greatest
    position that was deleted for its age, `revision` the tenant's when the socket was taken in.

    Whoever drains it iterates over `frames` once. With a `line` to its transport, what comes while nothing waits here is written
    there at once, and does not come by `frames`.
    """

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.line: Line | None = None
        self.expired = 0
        self.revision = 0
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._frames: deque[Frame] = deque()
        self._notices: deque[str] = deque()
        self._pictures: deque[str] = deque()
        self._something = asyncio.Event()
        self._behind = True
        self._position = 0
        self._is_idle = False
        self._rights: Rights | None = None

    def put(self, frames: Sequence[Frame], data: bytes) -> None:
        """
        Take frames in, `data` being all of them for the wire.

        One too many, and all are read from the database when there is room again.
        """
        if self._behind or self._write(frames, data):
            return
        if len(self._frames) + len(frames) > MAILBOX_FRAMES:
            self._frames.clear()
            self._behind = True
        else:
            self._frames.extend(frames)
        self._something.set()

    def _write(self, frames: Sequence[Frame], data: bytes) -> bool:
        """Write to the transport, if everything before is there already, and there is room."""
        is_next = self._is_idle and not self._notices and frames[0].position > self._position
        if self.line is None or not is_next or self.closed.done() or not self.line.offer(data):
            return False
        self._position = frames[-1].position
        return True

    def say(self, notice: str) -> None:
        """Send a text that is no event; one that already waits is not said twice."""
        if notice not in self._notices:
            self._notices.append(notice)
            self._something.set()

    def show(self, picture: str) -> None:
        """
        Send the frame of a picture, after the events that wait: its own is one of them, perhaps.

        Where too many wait, the page is told to read the list again instead.
        """
        if len(self._pictures) < MAILBOX_PICTURES:
            self._pictures.append(picture)
            self._something.set()
        else:
            self._pictures.clear()
            self.say(CHANGED)

    def compare_revision(self, revision: int | None) -> None:
        """Have a page look again that was made, or last told, at another revision than its socket was opened at."""
        if revision is not None and revision != self.revision:
            self.say(CHANGED)

    def compare_rights(self, rights: Rights | None) -> None:
        """
        Have the page look again when its person may do more or less than at the last look.

        What waits here is dropped and read anew from the database, which knows what they may see now.
        """
        if self._rights is not None and rights != self._rights:
            self._frames.clear()
            self._pictures.clear()
            self._behind = True
            self.say(RIGHTS)
            self._something.set()
        self._rights = rights

    def close(self, code: int) -> None:
        """End the socket; nothing more is sent."""
        if not self.closed.done():
            self.closed.set_result(code)

    async def frames(self, after: int) -> AsyncGenerator[Frame]:
        """What is to be sent, for ever: first everything after the position `after`, then what comes."""
        self._position = after
        if after < self.expired:
            yield Frame(after, f'{{"type":"expired","position":{self.expired}}}')
        while True:
            if self._behind:
                # From now on new frames are kept here; what was committed before is found by the query.
                self._behind = False
                async for frame in _replay(self.visitor, self._position):
                    yield frame
                    self._position = frame.position
            while self._frames or self._notices or (self._pictures and not self._behind):
                if self._notices:
                    yield Frame(self._position, self._notices.popleft())
                    continue
                if not self._frames:
                    yield Frame(self._position, self._pictures.popleft())
                    continue
                frame = self._frames.popleft()
                if frame.position > self._position:
                    yield frame
                    self._position = frame.position
            if not self._behind:
                self._something.clear()
                self._is_idle = True
                await self._something.wait()
                self._is_idle = False


class _Feed:
    """One tenant's events in this process."""

    def __init__(self, tenant_id: int) -> None:
        self.tenant_id = tenant_id
        self.wake = asyncio.Event()
        self.pump: asyncio.Task[None] | None = None
        self._standing: Standing | None = None
        self._awaited: Awaited | None = None
        self._looks_for_pictures = False
        self._staff: set[Mailbox] = set()
        # Those who see only some devices, by person: customers, guests, operators with a limit.
        self._limited: dict[int | None, set[Mailbox]] = {}

    def begin(self, standing: Standing) -> None:
        """Start reading after `standing`; the first call counts."""
        if self.pump is None:
            self._standing = standing
            self.pump = asyncio.create_task(self._pump())
            self.pump.add_done_callback(self._pump_ended)
            self.look_for_pictures()

    def _pump_ended(self, task: asyncio.Task[None]) -> None:
        """By a mistake of ours: whoever listens comes back with their position, and a new pump starts."""
        self.pump = None
        if not task.cancelled():
            logger.error("A feed broke off. tenant=%s", self.tenant_id, exc_info=task.exception())
            self.close_all()

    def close_all(self) -> None:
        """End every socket; their browsers come back."""
        for mailbox in self.mailboxes():
            mailbox.close(CLOSE_TRY_AGAIN)

    def mailboxes(self) -> Iterator[Mailbox]:
        yield from self._staff
        for own in self._limited.values():
            yield from own

    def add(self, mailbox: Mailbox) -> None:
        visitor = mailbox.visitor
        own = self._staff if visitor.sees_whole_tenant else self._limited.setdefault(visitor.user_id, set())
        own.add(mailbox)

    def discard(self, mailbox: Mailbox) -> None:
        self._staff.discard(mailbox)
        own = self._limited.get(mailbox.visitor.user_id, set())
        own.discard(mailbox)
        if not own:
            self._limited.pop(mailbox.visitor.user_id, None)

    def compare(self, standing: Standing) -> None:
        """Wake up when the database has more than was read so far, or a picture may have come."""
        if self._standing is not None and standing != self._standing:
            self.wake.set()
        if self._awaited is None or self._awaited.events or self._awaited.position < standing.last:
            self.look_for_pictures()

    def look_for_pictures(self) -> None:
        """Wake up to see which events have got their picture."""
        self._looks_for_pictures = True
        self.wake.set()

    async def _pump(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            try:
                await self._read_new()
                if self._looks_for_pictures:
                    self._looks_for_pictures = False
                    await self._read_pictures()
            except (DatabaseError, InterfaceError) as error:
                # The next poke, or the look every two seconds, reads on from the same place.
                logger.warning(
                    "New events could not be read. tenant=%s error=%s", self.tenant_id, type(error).__name__
                )
            await asyncio.sleep(BREATH_S)

    async def _read_new(self) -> None:
        assert self._standing is not None  # noqa: S101 - `begin` starts the pump with it
        page_is_full = True
        while page_is_full:
            for_staff_only = not self._limited
            revision, frames = await in_thread(
                _read_news, self.tenant_id, self._standing.last, for_staff_only=for_staff_only
            )
            if for_staff_only and self._limited:
                continue  # who has come meanwhile replayed before these were committed, and they name no readers
            self._spread(frames)
            if revision != self._standing.revision:
                for mailbox in self.mailboxes():
                    mailbox.say(CHANGED)
            self._standing = Standing(frames[-1].position if frames else self._standing.last, revision)
            page_is_full = len(frames) == PAGE

    async def _read_pictures(self) -> None:
        assert self._standing is not None  # noqa: S101 - `begin` starts the pump with it
        pictures, self._awaited = await in_thread(
            _read_pictures, self.tenant_id, self._awaited, self._standing.last
        )
        for picture in pictures:
            readers = picture.readers & self._limited.keys()
            for mailbox in self._staff.union(*(self._limited[reader] for reader in readers)):
                mailbox.show(picture.text)

    def _spread(self, frames: list[Frame]) -> None:
        _give(frames, self._staff)
        for reader in frozenset().union(*(frame.readers for frame in frames)) & self._limited.keys():
            _give([frame for frame in frames if reader in frame.readers], self._limited[reader])


def _give(frames: Sequence[Frame], mailboxes: AbstractSet[Mailbox]) -> None:
    if frames and mailboxes:
        data = b"".join([frame.data for frame in frames])
        for mailbox in mailboxes:
            mailbox.put(frames, data)


class Hub:
    """All feeds of this process."""

    def __init__(self) -> None:
        self._feeds: dict[int, _Feed] = {}
        self._starting = asyncio.Lock()
        self._channel = ""
        self._tending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    async def join(self, visitor: Visitor) -> tuple[Mailbox, int]:
        """
        Take a new socket in; return its mailbox and the tenant's last position.

        Whatever is committed after this returns reaches the mailbox. Call `leave` when the socket ends.
        """
        mailbox = Mailbox(visitor)
        feed = self._feeds.setdefault(visitor.tenant_id, _Feed(visitor.tenant_id))
        feed.add(mailbox)
        try:
            await self._start()
            await self._subscribe([feed])
            standings = await in_thread(_read_standings, [visitor.tenant_id])
            rights = await in_thread(rights_of, {visitor}, now=timezone.now())
            mailbox.compare_rights(rights.get(visitor))
        except BaseException:
            self.leave(mailbox)
            raise
        standing = standings.get(visitor.tenant_id, Standing())
        mailbox.expired = standing.expired
        mailbox.revision = standing.revision
        feed.begin(standing)
        return mailbox, standing.last

    def leave(self, mailbox: Mailbox) -> None:
        """The socket has ended. A feed nobody listens to goes with the next look."""
        feed = self._feeds.get(mailbox.visitor.tenant_id)
        if feed is not None:
            feed.discard(mailbox)

    async def _start(self) -> None:
        """Have the tasks running that serve the feeds."""
        async with self._starting:
            if self._tending is None or self._tending.done():
                self._tending = asyncio.create_task(self._tend())
                self._tending.add_done_callback(self._tending_ended)
            if not self._channel:
                async with _layer_or_not():
                    self._channel = await get_channel_layer().new_channel()
            if self._channel and (self._listening is None or self._listening.done()):
                self._listening = asyncio.create_task(self._listen(self._channel))

    async def _subscribe(self, feeds: Iterable[_Feed]) -> None:
        if self._channel:
            async with _layer_or_not():
                for feed in feeds:
                    await get_channel_layer().group_add(group_of(feed.tenant_id), self._channel)

    async def _listen(self, channel: str) -> None:
        layer = get_channel_layer()
        while True:
            message = await layer.receive(channel)
            feed = self._feeds.get(message["tenant"])
            if feed is not None and message["type"] == PICTURED:
                feed.look_for_pictures()
            elif feed is not None:
                feed.wake.set()

    async def _tend(self) -> None:
        """While there are sockets: look every two seconds."""
        while self._feeds:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("The hub could not look at the database. error=%s", type(error).__name__)
            await self._drop_idle_feeds()
            await self._start()
            # Again and again: the in-memory layer forgets members, and Redis may have been restarted.
            await self._subscribe(list(self._feeds.values()))

    def _tending_ended(self, task: asyncio.Task[None]) -> None:
        """Leave nothing running; and nobody listening unwatched, should it have ended by a mistake of ours."""
        if self._tending is task:
            self._tending = None
            if self._listening is not None:
                self._listening.cancel()
                self._listening = None
            self._channel = ""
        # Else a socket joined between its last look and this call, and has started the next one already.
        if not task.cancelled() and task.exception() is not None:
            logger.error("The hub stopped looking; its sockets are closed.", exc_info=task.exception())
            for feed in self._feeds.values():
                feed.close_all()

    async def _look(self) -> None:
        """Catch what no message told: people who may no longer listen, new positions, changes."""
        feeds = list(self._feeds.values())
        mailboxes = [mailbox for feed in feeds for mailbox in feed.mailboxes()]
        admitted = await in_thread(
            still_admitted, {mailbox.visitor for mailbox in mailboxes}, now=timezone.now()
        )
        rights = await in_thread(
            rights_of, {mailbox.visitor for mailbox in mailboxes} & admitted, now=timezone.now()
        )
        for mailbox in mailboxes:
            if mailbox.visitor not in admitted:
                mailbox.close(CLOSE_NOT_ALLOWED)
            else:
                mailbox.compare_rights(rights.get(mailbox.visitor))
        standings = await in_thread(_read_standings, [feed.tenant_id for feed in feeds])
        for feed in feeds:
            feed.compare(standings.get(feed.tenant_id, Standing()))

    async def _drop_idle_feeds(self) -> None:
        idle = [feed for feed in self._feeds.values() if not any(feed.mailboxes())]
        for feed in idle:
            del self._feeds[feed.tenant_id]
            if feed.pump is not None:
                feed.pump.cancel()
        if self._channel:
            async with _layer_or_not():
                for feed in idle:
                    await get_channel_layer().group_discard(group_of(feed.tenant_id), self._channel)


@asynccontextmanager
async def _layer_or_not() -> AsyncIterator[None]:
    """Do without the channel layer where it is away or slow: the hub finds news by looking, and tries again."""
    try:
        async with asyncio.timeout(GIVE_UP_AFTER_S):
            yield
    except LAYER_ERRORS as error:
        logger.warning("The channel layer is away; news is found by looking. error=%s", type(error).__name__)


hubs = PerLoop(Hub)


async def _replay(visitor: Visitor, after: int) -> AsyncIterator[Frame]:
    """Everything the visitor may see after a position, page by page, in order."""
    position, page_is_full = after, True
    while page_is_full:
        frames = await in_thread(_read_frames_for, visitor, position)
        for frame in frames:
            yield frame
            position = frame.position
        page_is_full = len(frames) == PAGE


def _encode(event: Event, readers: frozenset[int] = frozenset()) -> Frame:
    return Frame(event.position, orjson.dumps(frame_for(event)).decode(), readers)


# What a frame tells of an event, and who may have it.
_SHOWN = ("tenant", "device", "ring_account", "picture")


def _read_frames_for(visitor: Visitor, after: int) -> list[Frame]:
    rows = Event.objects.visible_to(visitor).after(after).select_related(*_SHOWN)
    with tenant_scope(visitor.tenant_id):
        return [_encode(event) for event in rows[:PAGE]]


def _read_news(tenant_id: int, after: int, *, for_staff_only: bool) -> tuple[int, list[Frame]]:
    """The tenant's revision, and its next events after a position, each with whoever may have it at this moment."""
    revision = _read_standings([tenant_id]).get(tenant_id, Standing()).revision
    rows = Event.objects.for_tenant(tenant_id).after(after).select_related(*_SHOWN)
    with tenant_scope(tenant_id):
        events = list(rows[:PAGE])
        if for_staff_only:
            return revision, [_encode(event) for event in events]
        device_ids = {
            event.device_id for event in events if event.device_id is not None and not event.is_test
        }
        grantees = grantees_of(device_ids, tenant_id, Capability.EVENTS, now=timezone.now())
    return revision, [_encode(event, _readers_of(event, grantees)) for event in events]


def _readers_of(event: Event, grantees: Mapping[int, frozenset[int]]) -> frozenset[int]:
    """As `EventQuerySet.visible_to` has it, for everybody at once."""
    if event.is_test:
        return frozenset()
    owner_id = event.ring_account.user_id if event.ring_account is not None else None
    granted = grantees.get(event.device_id or 0, frozenset())
    return granted if owner_id is None else granted | {owner_id}


def _read_pictures(tenant_id: int, before: Awaited | None, position: int) -> tuple[list[Frame], Awaited]:
    """The pictures that have come of events up to a position, each with whoever may have it now, and what is awaited."""
    now = timezone.now()
    with tenant_scope(tenant_id):
        if before is None:
            return [], awaited.awaited_up_to(tenant_id, position, now=now)
        pictured, still_awaited = awaited.look(tenant_id, before, position, now=now)
        device_ids = {event.picture.device_id for event in pictured}
        grantees = grantees_of(device_ids, tenant_id, Capability.EVENTS, now=now)
    frames = [
        Frame(
            event.position,
            orjson.dumps(picture_frame_for(event)).decode(),
            _readers_of_picture(event, grantees),
        )
        for event in pictured
    ]
    return frames, still_awaited


def _readers_of_picture(event: Event, grantees: Mapping[int, frozenset[int]]) -> frozenset[int]:
    """Who may see both: an event is also theirs whose account it came with, a picture is its device's alone."""
    owner_id = event.picture.device.ring_account.user_id
    may_see_picture = grantees.get(event.picture.device_id, frozenset()) | {owner_id}
    return _readers_of(event, grantees) & may_see_picture


def _read_standings(tenant_ids: list[int]) -> dict[int, Standing]:
    rows = TenantPosition.objects.filter(pk__in=tenant_ids).values_list("pk", "last", "revision", "expired")
    with tenant_scope(*tenant_ids):
        return {pk: Standing(*standing) for pk, *standing in rows}
