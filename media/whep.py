"""
Our WHEP endpoint: any standard player watches a camera here and never meets Ring.

Direct path: the offer goes to Ring with our token, Ring's answer comes back, and media flows from Ring to the player.
Relay path: we answer the offer ourselves and pass on the packets of one session at Ring (media.relaying).
Source: draft-ietf-wish-whep (endpoint and session), RFC 9725 4.3 (PATCH), contract 10.1 (what Ring can do).
"""

from http import HTTPStatus
from uuid import UUID

from django.db.models import Q
from django.http import Http404, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import parse_etags

from accounts.models import Role
from devices.grants import Capability, NotGranted
from devices.models import Device
from media import live, relaying
from media.access import ViewerRequest, for_players_anywhere, viewers_allowed
from media.ice import ice_servers
from media.live import LiveRefused, Watcher
from media.models import LiveSession, LiveSessionQuerySet, Purpose
from media.problem import problem
from media.relaying import NotRelayed, Path
from media.sdp import MAX_OFFER_BYTES, NotSdp, UnfitOffer, check_fragment, check_offer

SDP = "application/sdp"
TRICKLE = "application/trickle-ice-sdpfrag"


@for_players_anywhere
@viewers_allowed(*Role, is_page=False)
def endpoint(request: ViewerRequest, tenant: str, device: UUID) -> HttpResponse:
    """
    POST an SDP offer, get 201 with Ring's answer and the address of the session. `?component=` chooses a camera,
    `?purpose=` says what it is watched for.

    Everyone in the tenant, for the devices they may watch (403 for those they may only see); a token of the tenant with the `read` scope.
    """
    try:
        camera = Device.objects.select_related("tenant", "ring_account").get_permitted(
            request.viewer, Capability.LIVE, public_id=device
        )
    except NotGranted as error:
        return problem(HTTPStatus.FORBIDDEN, "not_granted", str(error))
    if request.method == "POST":
        return open_viewing(request, camera)
    allow = {"Allow": "POST, GET, HEAD, OPTIONS", "Accept-Post": SDP}
    if request.method == "OPTIONS":
        return HttpResponse(status=HTTPStatus.NO_CONTENT, headers={**allow, **_ice_links()})
    if request.method == "GET":
        # There is nothing to get, and the draft wants that said by a success (Protocol Operation, HTTP usage).
        return HttpResponse(
            status=HTTPStatus.NO_CONTENT, headers={**allow, **_ice_links(), "Cache-Control": "no-store"}
        )
    if request.method == "HEAD":
        return HttpResponse(content_type=SDP, headers={**allow, **_ice_links(), "Cache-Control": "no-store"})
    return problem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method", "Watch by a POST with an SDP offer.", headers=allow
    )


def open_viewing(request: ViewerRequest, camera: Device) -> HttpResponse:
    """Answer a POST with an offer, by somebody who may watch this camera."""
    if not request.accepts(SDP):
        return problem(
            HTTPStatus.NOT_ACCEPTABLE, "accept", "The answer is application/sdp: let Accept admit it."
        )
    if request.content_type != SDP:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            "Send the SDP offer as Content-Type: application/sdp.",
            headers={"Accept-Post": SDP},
        )
    path = request.GET.get("path", "")
    if path not in {"", Path.DIRECT, Path.RELAY}:
        return problem(HTTPStatus.BAD_REQUEST, "path", "The path is direct or relay.")
    purpose = request.GET.get("purpose", "")
    if purpose not in {"", *Purpose.values}:
        return problem(
            HTTPStatus.BAD_REQUEST, "unknown_purpose", f"The purpose is one of {', '.join(Purpose.values)}."
        )
    if not purpose and request.screen is None and live.must_say_purpose(request.viewer, camera):
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "purpose",
            f"This company wants to know what its team watches for: add ?purpose={'|'.join(Purpose.values)}.",
        )
    try:
        name = request.headers.get("Session-Name")
        asked_as = UUID(name) if name else None
    except ValueError:
        return problem(HTTPStatus.BAD_REQUEST, "session_name", "A Session-Name is a UUID of your own making.")
    body = request.read(MAX_OFFER_BYTES + 1)
    if len(body) > MAX_OFFER_BYTES:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "An SDP offer has at most 64 KiB here."
        )
    try:
        offer = check_offer(body)
        opened = relaying.watch(
            device=camera,
            offer_sdp=offer,
            component_id=request.GET.get("component", ""),
            watcher=Watcher(
                viewer=request.person,
                api_token=request.api_token,
                screen=request.screen,
                # Watched by this sign-in: when it ends, so does the session.
                session_key=(request.session.session_key or "") if request.person is not None else "",
                purpose=purpose,
                asked_as=asked_as,
            ),
            path=path,
            now=timezone.now(),
        )
    except NotSdp as error:
        return problem(HTTPStatus.BAD_REQUEST, "not_sdp", str(error))
    except UnfitOffer as error:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "offer", str(error))
    except LiveRefused as error:
        return _refused(error)
    session = opened.session
    return HttpResponse(
        opened.answer_sdp,
        status=HTTPStatus.CREATED,
        content_type=SDP,
        headers={
            "Location": reverse(
                "media:whep_session" if request.screen is None else "media:screen_session",
                args=[request.tenant.slug, camera.public_id, session.public_id],
            ),
            "ETag": _etag(session),
            "Accept-Patch": TRICKLE,
            "Cache-Control": "no-store",
            # How long it lasts, in seconds; the player counts down from it.
            "Session-Cap": str(session.cap_s),
            "Live-Path": _path_of(session),
            **_ice_links(),
        },
    )


@for_players_anywhere
@viewers_allowed(*Role, is_page=False)
def session_resource(request: ViewerRequest, tenant: str, device: UUID, session: UUID) -> HttpResponse:
    """
    DELETE ends a session (so does POST, for a page that can only send a beacon); HEAD and GET tell whether it is open.

    Only for whoever opened it. A session that is over is 404, with the reason in `Session-End`; to end one's own session
    twice is 200: a player that closes its peer connection has said so by DTLS already, and its DELETE may come second.
    """
    return answer_session(request, _find_session(request, device, session))


def answer_session(request: ViewerRequest, row: LiveSession) -> HttpResponse:
    """What the session's address answers to whoever opened it."""
    allow = {"Allow": "DELETE, POST, PATCH, GET, HEAD, OPTIONS", "Accept-Patch": TRICKLE}
    if request.method == "OPTIONS":
        return HttpResponse(status=HTTPStatus.NO_CONTENT, headers=allow)
    if request.method not in {"DELETE", "POST", "PATCH", "GET", "HEAD"}:
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, "method", "End the session by DELETE.", headers=allow)
    if request.method in {"DELETE", "POST"} and row.end_reason == LiveSession.EndReason.CLOSED:
        return _ended()
    if row.ended_at is not None:
        return _over(row)
    if request.method in {"GET", "HEAD"}:
        headers = {"ETag": _etag(row), "Cache-Control": "no-store", "Live-Path": _path_of(row)}
        if relaying.should_move(row):
            headers["Better-Path"] = Path.RELAY
        if request.method == "GET":
            return HttpResponse(status=HTTPStatus.NO_CONTENT, headers=headers)
        return HttpResponse(content_type=SDP, headers=headers)
    if request.method == "PATCH":
        return _patch(request, row)
    relaying.end_viewing(session=row, reason=LiveSession.EndReason.CLOSED, now=timezone.now())
    return _ended()


@for_players_anywhere
@viewers_allowed(*Role, is_page=False)
def keep_watching(request: ViewerRequest, tenant: str, device: UUID, session: UUID) -> HttpResponse:
    """
    POST: the viewer is still there, so a relayed session goes on; `Session-Cap` says for how many seconds from now.

    Only for whoever opened it. A direct session ends when Ring ends it (409): open the next one with `?path=relay`.
    """
    return answer_more(request, _find_session(request, device, session))


def answer_more(request: ViewerRequest, row: LiveSession) -> HttpResponse:
    """What the address of the session's prolonging answers to whoever opened it."""
    if request.method != "POST":
        return problem(
            HTTPStatus.METHOD_NOT_ALLOWED, "method", "Keep watching by a POST.", headers={"Allow": "POST"}
        )
    if row.ended_at is not None:
        return _over(row)
    try:
        left_s = relaying.keep_watching(row, now=timezone.now())
    except NotRelayed:
        return problem(
            HTTPStatus.CONFLICT,
            "direct",
            "Ring sets the end of this session. Open the next one by the relay.",
        )
    except LiveRefused as error:
        return _refused(error)
    return HttpResponse(
        status=HTTPStatus.NO_CONTENT, headers={"Session-Cap": str(left_s), "Cache-Control": "no-store"}
    )


def _ended() -> HttpResponse:
    headers = {"Cache-Control": "no-store", "Session-End": LiveSession.EndReason.CLOSED.value}
    return HttpResponse(status=HTTPStatus.OK, headers=headers)


def _over(row: LiveSession) -> HttpResponse:
    return problem(
        HTTPStatus.NOT_FOUND,
        row.end_reason,
        f"This session is over: {row.get_end_reason_display()}.",
        headers={"Session-End": row.end_reason},
    )


def _refused(refusal: LiveRefused) -> HttpResponse:
    wait = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return problem(refusal.status, refusal.reason, str(refusal), headers=wait)


def _path_of(session: LiveSession) -> str:
    return Path.RELAY if session.kind == LiveSession.Kind.RELAYED else Path.DIRECT


def _find_session(request: ViewerRequest, device: UUID, session: UUID) -> LiveSession:
    rows = LiveSession.objects.for_tenant(request.tenant).select_related(
        "tenant", "viewer", "device__ring_account", "device__tenant"
    )
    if request.api_token is not None:
        rows = rows.filter(api_token=request.api_token)
    elif request.person is not None:
        rows = rows.filter(viewer=request.person)
    else:
        raise Http404("There is no such session for you.")
    return find_named(rows.filter(device__public_id=device), session)


def find_named(rows: LiveSessionQuerySet, name: UUID) -> LiveSession:
    """Of these sessions the one of our name, or of the `Session-Name` it was asked for by."""
    found: LiveSession | None = rows.filter(Q(public_id=name) | Q(asked_as=name)).first()
    if found is None:
        raise Http404("There is no such session for you.")
    return found


def _patch(request: ViewerRequest, row: LiveSession) -> HttpResponse:
    """
    Trickle ICE as far as it can be had: Ring takes none (contract 10.1), so only the end of candidates is accepted.

    428 without If-Match, 412 for another ICE session's, 422 for candidates that would never reach Ring, and for an ICE
    restart, which says `If-Match: *` (RFC 9725 4.3.2).
    """
    if request.content_type != TRICKLE:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            f"PATCH takes {TRICKLE}.",
            headers={"Accept-Patch": TRICKLE},
        )
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return problem(HTTPStatus.PRECONDITION_REQUIRED, "if_match", "Send the session's ETag as If-Match.")
    if wanted.strip() == "*":
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "ice_restart",
            "There is no ICE restart here. End this session, and POST a new offer.",
        )
    if _etag(row) not in parse_etags(wanted):
        return problem(HTTPStatus.PRECONDITION_FAILED, "etag", "This is not the ETag of the session.")
    body = request.read(MAX_OFFER_BYTES + 1)
    if len(body) > MAX_OFFER_BYTES:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "A fragment has at most 64 KiB here."
        )
    try:
        fragment = check_fragment(body)
    except NotSdp as error:
        return problem(HTTPStatus.BAD_REQUEST, "not_sdp", str(error))
    if "a=candidate:" in fragment:
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "trickle",
            "No candidates are taken after the offer. Gather them all, then POST a new offer.",
        )
    # Without an ETag, which would say that ICE began anew (draft, Trickle ICE).
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


def _etag(session: LiveSession) -> str:
    return f'"{session.public_id.hex}"'


def name_servers() -> HttpResponse:
    """Name the STUN and TURN servers to a page that lies open for longer than TURN's passwords last."""
    return HttpResponse(content_type=SDP, headers={**_ice_links(), "Cache-Control": "no-store"})


def _ice_links() -> dict[str, str]:
    """The STUN and TURN servers of this installation, as the draft's Link headers."""
    links = [server.link for server in ice_servers(now=timezone.now())]
    return {"Link": ", ".join(links)} if links else {}
