"""Reading an SDP offer just far enough to refuse what Ring would refuse, in words a person can use."""

import re
from typing import Final

MAX_OFFER_BYTES: Final = 64 * 1024
_DIRECTIONS: Final = frozenset({"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"})
_LINE: Final = re.compile(r"[a-z]=[^\x00\r\n]*")
_FRAGMENT_LINE: Final = re.compile(r"(a=[^\x00\s:][^\x00]*|m=\S[^\x00]*)")
_CREDENTIALS: Final = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")


class NotSdp(ValueError):
    """The body is not a session description at all."""


class UnfitOffer(ValueError):
    """A session description, but no offer that Ring can answer; the message says which rule it breaks."""


def check_offer(body: bytes) -> str:
    """
    Give the offer's text if Ring can answer it: video, nothing but `recvonly`, ICE credentials and a fingerprint.

    Raises NotSdp or UnfitOffer. Source: contract 10.1 (directions, no trickle), RFC 8866.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotSdp("The body is not an SDP offer: it is not text.") from None
    lines = text.splitlines()
    if not lines or lines[0] != "v=0" or not all(_LINE.fullmatch(line) for line in lines if line):
        raise NotSdp(
            'The body is not an SDP offer: it must begin with "v=0" and hold lines like "m=video …".'
        )
    session, *media = _sections(lines)
    if not any(section[0].startswith("m=video ") for section in media):
        raise UnfitOffer("The offer asks for no video. Add one recvonly video transceiver.")
    for section in media:
        if not section[0].startswith(("m=video ", "m=audio ")):
            raise UnfitOffer("The offer may hold video and audio only.")
        # Without a direction of its own a section has the session's, else it is sendrecv (RFC 8866, 6.7).
        if (_direction(section) or _direction(session)) != "a=recvonly":
            raise UnfitOffer(
                "Every media line of the offer must be recvonly: nothing is ever sent to the camera."
            )
        for attribute in _CREDENTIALS:
            if not any(line.startswith(attribute) for line in (*session, *section)):
                raise UnfitOffer(
                    f"The offer is not complete: {attribute[2:-1]} is missing. Gather candidates first."
                )
    return text


def check_fragment(body: bytes) -> str:
    """Give the text of a fragment of ICE's (application/trickle-ice-sdpfrag). Raises NotSdp. Source: RFC 8840 9.2."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotSdp("The body is not an SDP fragment: it is not text.") from None
    lines = [line for line in text.splitlines() if line]
    if not lines or not all(_FRAGMENT_LINE.fullmatch(line) for line in lines):
        raise NotSdp(
            'The body is not an SDP fragment: it holds lines like "a=ice-ufrag:…", "m=video …" and "a=end-of-candidates".'
        )
    return text


def has_video(answer_sdp: str) -> bool:
    """Whether an answer accepts the video: a media line that is rejected has port 0 (RFC 3264 6)."""
    return any(
        line.startswith("m=video ") and not line.startswith("m=video 0 ") for line in answer_sdp.splitlines()
    )


def _sections(lines: list[str]) -> list[list[str]]:
    """The session's lines, then those of each media section, its `m=` line first."""
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line)
    return sections


def _direction(section: list[str]) -> str:
    return next((line for line in section if line in _DIRECTIONS), "")
