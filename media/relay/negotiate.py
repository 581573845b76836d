"""Fitting session descriptions: a viewer's offer to the codec the camera sends, an answer to the viewer's own words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# The H.264 profile aiortc compares strictly; what is forwarded is named so towards it and renamed in the answer.
KNOWN_PROFILE: Final = "42e01f"
_H264: Final = re.compile(r"a=rtpmap:(\d+) H264/90000", re.IGNORECASE)
_FMTP: Final = re.compile(r"a=fmtp:(\d+) (.*)")
_PROFILE: Final = re.compile(r"profile-level-id=([0-9a-fA-F]{6})")
_OF_PAYLOAD: Final = re.compile(r"a=(rtpmap|fmtp|rtcp-fb):(\d+) ")
_APT: Final = re.compile(r"apt=(\d+)")
# aiortc takes an offer's payload type over only from here on; Chromium names its later formats below it (RFC 8843, 10.1.2).
_DYNAMIC: Final = range(96, 128)
# A decoder of a profile plays those before it.
_RANK: Final = {"42": 0, "4d": 1, "64": 2}


class NothingInCommon(ValueError):
    """The viewer cannot take what the camera sends; the message is for people."""


@dataclass(frozen=True)
class FittedOffer:
    """The offer as aiortc gets it; the profile's name and the payload types in the viewer's own words, those by aiortc's."""

    sdp: str
    profile: str
    payload_types: Mapping[int, int]


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
    numbers = _numbers_for(keep, [section for section in sections if section is not video])
    fitted = []
    for line in video:
        of_payload = _OF_PAYLOAD.match(line)
        if of_payload and of_payload[2] not in keep:
            continue
        if line.startswith("m="):
            fields = line.split()
            line = " ".join([*fields[:3], *(field for field in fields[3:] if field in keep)])
        elif of_payload and of_payload[2] == payload and line.startswith("a=fmtp:"):
            line = _with_profile(line, KNOWN_PROFILE)
        fitted.append(_renumbered(line, numbers))
    lines = [line for section in sections for line in (fitted if section is video else section)]
    return FittedOffer(
        sdp="\r\n".join(line for line in lines if not _is_unwanted(line)) + "\r\n",
        profile=named,
        payload_types={int(number): int(theirs) for theirs, number in numbers.items()},
    )


def finish_answer(answer: str, *, offer: FittedOffer) -> str:
    """
    The answer in the viewer's own words, with one fingerprint: some stacks read only the last line.

    RTCP has no port of its own, and the answer says so (draft-ietf-wish-whep, SDP Bundle; RFC 8858 3).
    """
    numbers = {str(number): str(theirs) for number, theirs in offer.payload_types.items()}
    lines = []
    is_video = False
    for line in answer.splitlines():
        if line.startswith("m="):
            is_video = line.startswith("m=video ")
        if line.startswith("a=fingerprint:") and not line.startswith("a=fingerprint:sha-256 "):
            continue
        if line.startswith("a=fmtp:") and _PROFILE.search(line):
            line = _PROFILE.sub(f"profile-level-id={offer.profile}", line)
        lines.append(_renumbered(line, numbers) if is_video else line)
        if line == "a=rtcp-mux":
            lines.append("a=rtcp-mux-only")
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


def _numbers_for(keep: set[str], others: list[list[str]]) -> dict[str, str]:
    """A payload type that aiortc takes over for each of `keep`: its own, else one that none of `keep` and of other media has."""
    taken = keep | {field for section in others[1:] for field in section[0].split()[3:]}
    free = (str(number) for number in _DYNAMIC if str(number) not in taken)
    numbers = {}
    for theirs in sorted(keep):
        is_fit = int(theirs) in _DYNAMIC
        number = theirs if is_fit else next(free, None)
        if number is None:
            raise NothingInCommon("The offer has too many formats.")
        numbers[theirs] = number
    return numbers


def _renumbered(line: str, numbers: Mapping[str, str]) -> str:
    """One line of a media section, with other payload types."""
    if line.startswith("m="):
        fields = line.split()
        return " ".join([*fields[:3], *(numbers.get(field, field) for field in fields[3:])])
    if line.startswith("a=fmtp:"):
        line = _APT.sub(lambda found: f"apt={numbers.get(found[1], found[1])}", line)
    return _OF_PAYLOAD.sub(lambda found: f"a={found[1]}:{numbers.get(found[2], found[2])} ", line)


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
