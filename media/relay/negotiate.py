"""Fitting session descriptions: a viewer's offer to the codec the camera sends, an answer to the viewer's own words."""

import re
from dataclasses import dataclass
from typing import Final

# The H.264 profile aiortc compares strictly; what is forwarded is named so towards it and renamed in the answer.
KNOWN_PROFILE: Final = "42e01f"
_H264: Final = re.compile(r"a=rtpmap:(\d+) H264/90000", re.IGNORECASE)
_FMTP: Final = re.compile(r"a=fmtp:(\d+) (.*)")
_PROFILE: Final = re.compile(r"profile-level-id=([0-9a-fA-F]{6})")
_OF_PAYLOAD: Final = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d+) ")
_APT: Final = re.compile(r"apt=(\d+)")
# A decoder of a profile plays those before it.
_RANK: Final = {"42": 0, "4d": 1, "64": 2}


class NothingInCommon(ValueError):
    """The viewer cannot take what the camera sends; the message is for people."""


@dataclass(frozen=True)
class FittedOffer:
    """The offer as aiortc gets it, and the profile's name in the viewer's own words."""

    sdp: str
    profile: str


def fit_offer(offer: str, *, profile: str) -> FittedOffer:
    """
    Leave of the first video section only the H.264 format that fits best to `profile` (profile-level-id), with its RTX.

    Takes away candidates behind mDNS names, which nobody outside the viewer's own network can look up, and the end of
    candidates: the viewer's own checks tell us its address. Raises NothingInCommon.
    """
    sections = _sections(offer)
    video = next((section for section in sections[1:] if section[0].startswith("m=video ")), None)
    if video is None:
        raise NothingInCommon("The offer asks for no video.")
    payload, named = _best_format(video, profile)
    keep = {payload}
    for line in video:
        found = _FMTP.match(line)
        if found and (apt := _APT.search(found[2])) and apt[1] == payload:
            keep.add(found[1])
    fitted = []
    for line in video:
        of_payload = _OF_PAYLOAD.match(line)
        if of_payload and of_payload[1] not in keep:
            continue
        if line.startswith("m="):
            fields = line.split()
            line = " ".join([*fields[:3], *(field for field in fields[3:] if field in keep)])
        elif of_payload and of_payload[1] == payload and line.startswith("a=fmtp:"):
            line = _with_profile(line, KNOWN_PROFILE)
        fitted.append(line)
    lines = [line for section in sections for line in (fitted if section is video else section)]
    return FittedOffer("\r\n".join(x for x in lines if not _is_unwanted(x)) + "\r\n", named)


def finish_answer(answer: str, *, profile: str) -> str:
    """The answer in the viewer's own words, with one fingerprint: some stacks read only the last line."""
    lines = []
    for line in answer.splitlines():
        if line.startswith("a=fingerprint:") and not line.startswith("a=fingerprint:sha-256 "):
            continue
        if line.startswith("a=fmtp:") and _PROFILE.search(line):
            line = _PROFILE.sub(f"profile-level-id={profile}", line)
        lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def finish_offer(offer: str) -> str:
    """Our own offer with one fingerprint."""
    lines = [
        line
        for line in offer.splitlines()
        if not line.startswith("a=fingerprint:") or line.startswith("a=fingerprint:sha-256 ")
    ]
    return "\r\n".join(lines) + "\r\n"


def _best_format(video: list[str], profile: str) -> tuple[str, str]:
    """The payload type and profile of the best H.264 with packetization mode 1: the same, else a larger one, else any."""
    h264 = {found[1] for line in video if (found := _H264.match(line))}
    order = video[0].split()[3:]
    formats = []
    for line in video:
        found = _FMTP.match(line)
        if found and found[1] in h264 and found[1] in order and "packetization-mode=1" in found[2]:
            named = _PROFILE.search(found[2])
            formats.append((found[1], named[1].lower() if named else KNOWN_PROFILE))
    if not formats:
        raise NothingInCommon("The offer has no H.264 with packetization-mode=1, which cameras send.")
    wanted = profile.lower()

    def distance(entry: tuple[str, str]) -> tuple[int, int, int]:
        payload, named = entry
        more = _RANK.get(named[:2], 3) - _RANK.get(wanted[:2], 0)
        return (
            0 if named == wanted else 1,
            more if more >= 0 else 10 - more,
            order.index(payload),
        )

    return min(formats, key=distance)


def _with_profile(line: str, profile: str) -> str:
    if _PROFILE.search(line):
        return _PROFILE.sub(f"profile-level-id={profile}", line)
    return f"{line};profile-level-id={profile}"


def _sections(sdp: str) -> list[list[str]]:
    """The session's lines, then those of each media section, its `m=` line first."""
    sections: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        if line:
            sections[-1].append(line)
    return sections


def _is_unwanted(line: str) -> bool:
    if line.startswith("a=candidate:"):
        fields = line.split()
        return len(fields) < 8 or fields[4].lower().endswith(".local")
    return line.rstrip() == "a=end-of-candidates"
