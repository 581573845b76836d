"""
The live relay against aiortc's `MediaRelay`, Debian's Janus and libdatachannel: what a viewer costs, and what viewers get.

All relay the same film (1280x720, 20 frames/s, about 2 Mbit/s, encoded beforehand) from a camera of aiortc in a process of its
own. The viewers, in this process, do ICE and DTLS by aiortc and then only count packets. The relay's CPU is what the
operating system counts for its process.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.figure import Figure
from bench.live import relays
from bench.live.film import FRAME_RATE
from bench.live.viewers import Farm, Viewer

KINDS = ("ours", "plain", "MediaRelay", "janus", "libdatachannel")
FULL_RATE = 0.98
FRAME_MS = 1000 / FRAME_RATE
ONE_HOUR_S = 3600.0
# So many are compared with the peers that carry them; so many does one core carry; so many join at one moment.
COMPARED, MANY, RUSH = 96, 300, 500
# The kinds compared, with so many viewers, under this name.
PEERS = {
    "MediaRelay": (4, "aiortc's MediaRelay, 4 viewers (it decodes and encodes again)"),
    "janus": (COMPARED, "Debian's Janus, videoroom"),
    "libdatachannel": (COMPARED, "libdatachannel, node binding"),
}


@dataclass(frozen=True)
class Measured:
    """One relay with so many viewers; a viewer-second is a second of film that came."""

    relay: str
    viewers: int
    cpu_ms_per_viewer_second: float
    cores: float
    frames_per_second: float
    at_full_rate: int
    with_gaps: int
    without_picture: int
    first_picture_median_s: float
    first_picture_longest_s: float
    longest_pause_ms: float
    sessions: int
    mib_before: float
    mib_after: float


def measure_relay(
    kind: str,
    count: int,
    *,
    seconds: float = 8,
    settle_s: float = 1,
    cap_s: float = ONE_HOUR_S,
    on_one_core: bool = False,
    at_once: bool = False,
) -> Measured:
    """
    Run the camera, a relay and `count` viewers; with `on_one_core` the relay gets a core to itself, and not more.

    Viewers join one after the other, or `at_once`. What comes in the first `settle_s` seconds is not counted.
    """

    async def measured() -> Measured:
        async with relays.running(kind, cap_s=cap_s) as (relay, _):
            if on_one_core:
                _put_on_a_core_of_its_own(relay.pid)
            return await _watch(kind, relay, count, seconds=seconds, settle_s=settle_s, at_once=at_once)

    return asyncio.run(measured())


def _put_on_a_core_of_its_own(pid: int) -> None:
    """All threads of the relay on one core, camera and viewers on the others."""
    cores = sorted(os.sched_getaffinity(0))
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores[-1:])


async def _watch(
    kind: str, relay: relays.Relay, count: int, *, seconds: float, settle_s: float, at_once: bool
) -> Measured:
    viewers = [Viewer() for _ in range(count)]
    if at_once:
        # Beforehand: making hundreds of keys is not the relay's work.
        for viewer in viewers:
            await viewer.offer()
        await asyncio.gather(*(relay.join(viewer) for viewer in viewers))
    else:
        for viewer in viewers:
            await relay.join(viewer)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(viewer.has_picture.wait() for viewer in viewers)), 30)
    with Farm() as farm:
        for viewer in viewers:
            farm.adopt(viewer)
        await asyncio.sleep(settle_s)
        for viewer in viewers:
            viewer.begin()
        cpu_before, mib_before = relays.cpu_s(relay.pid), relays.resident_mib(relay.pid)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        cpu_s, mib_after = relays.cpu_s(relay.pid) - cpu_before, relays.resident_mib(relay.pid)
        took_s = time.monotonic() - began
        firsts = [viewer.first_s for viewer in viewers if viewer.first_s is not None]
        # What was really delivered: on a busy machine frames fall out, and would make a relay look cheap.
        watched_s = max(1e-9, sum(viewer.watched_s for viewer in viewers))
        result = Measured(
            relay=kind,
            viewers=count,
            cpu_ms_per_viewer_second=cpu_s / watched_s * 1000,
            cores=cpu_s / took_s,
            frames_per_second=watched_s * FRAME_RATE / count / took_s,
            at_full_rate=sum(viewer.watched_s >= took_s * FULL_RATE for viewer in viewers),
            with_gaps=sum(viewer.gaps > 0 for viewer in viewers),
            without_picture=count - len(firsts),
            first_picture_median_s=statistics.median(firsts) if firsts else float("nan"),
            first_picture_longest_s=max(firsts, default=float("nan")),
            longest_pause_ms=max(viewer.longest_pause_s for viewer in viewers) * 1000,
            sessions=await relay.ask("sessions") if isinstance(relay, relays.InProcess) else 1,
            mib_before=mib_before,
            mib_after=mib_after,
        )
        for viewer in viewers:
            farm.release(viewer)
    await asyncio.gather(*(viewer.peer.close() for viewer in viewers))
    return result


def measure(*, rounds: int) -> list[Figure]:
    """What a viewer costs beside each peer, how soon the first picture is there, and how many viewers a core carries."""
    runs: dict[str, list[Measured]] = {"ours": [], **{kind: [] for kind in PEERS}}
    for _ in range(rounds):
        for kind, of_kind in runs.items():
            of_kind.append(measure_relay(kind, PEERS.get(kind, (COMPARED, ""))[0]))
    many = [measure_relay("ours", MANY, on_one_core=True) for _ in range(rounds)]
    rush = [measure_relay("ours", RUSH, seconds=2, at_once=True) for _ in range(rounds)]

    def viewer_seconds(kind: str) -> float:
        return statistics.median(1000 / run.cpu_ms_per_viewer_second for run in runs[kind])

    def first_picture_ms(kind: str) -> float:
        return statistics.median(run.first_picture_median_s * 1000 for run in runs[kind])

    costs = [
        Figure(
            name=f"live relay, viewer-seconds a CPU second, {COMPARED} viewers",
            unit="viewer-s/CPU-s",
            ours=viewer_seconds("ours"),
            peer=viewer_seconds(kind),
            peer_name=name,
        )
        for kind, (_, name) in PEERS.items()
    ]
    first_pictures = [
        Figure(
            name="live relay, offer to first whole picture, median",
            unit="ms",
            ours=first_picture_ms("ours"),
            peer=first_picture_ms(kind),
            peer_name=name,
        )
        for kind, (_, name) in PEERS.items()
    ]
    # What those beyond the first 96 add; the process itself has the rest.
    more = [large.mib_after - small.mib_after for large, small in zip(many, runs["ours"], strict=True)]
    return [
        *costs,
        *first_pictures,
        Figure(
            name="memory a viewer",
            unit="KiB",
            ours=statistics.median(more) * 1024 / (MANY - COMPARED),
            peer=1024,
            peer_name=f"the limit; {runs['ours'][-1].mib_after:.0f} MiB with {COMPARED} viewers, {many[-1].mib_after:.0f} with {MANY}",
        ),
        Figure(
            name="viewers at full rate without gaps, relay on one core",
            unit="viewers",
            ours=statistics.median(run.at_full_rate - run.with_gaps - run.without_picture for run in many),
            peer=MANY,
            peer_name=f"the limit; {statistics.median(run.cores for run in many):.2f} of the core used",
        ),
        Figure(
            name="viewers with a picture, all joined at once",
            unit="viewers",
            ours=min(RUSH - run.without_picture for run in rush),
            peer=RUSH,
            peer_name=f"all of them; the last after {max(run.first_picture_longest_s for run in rush):.1f} s",
        ),
    ]


def measure_long(*, minutes: float = 10, viewers: int = 32, cap_s: float = 60) -> list[Figure]:
    """What ten sessions in a row, each ended by the camera's cap, do to the picture and to the memory."""
    # From the second session on: by then the history that packets are sent again from is full.
    run = measure_relay("ours", viewers, seconds=minutes * 60, settle_s=cap_s + 30, cap_s=cap_s)
    return [
        Figure(
            name="longest pause between pictures, all viewers",
            unit="ms",
            ours=run.longest_pause_ms,
            peer=2 * FRAME_MS,
            peer_name=f"the limit, one frame left out; {run.sessions - 1} splices, {run.with_gaps} viewers with gaps",
        ),
        Figure(
            name=f"memory growth a viewer over {minutes:.0f} minutes",
            unit="KiB",
            ours=max(1.0, (run.mib_after - run.mib_before) * 1024 / viewers),
            peer=1024,
            peer_name=f"the limit; {run.mib_before:.0f} MiB before, {run.mib_after:.0f} after, {viewers} viewers",
        ),
    ]


def main() -> None:
    """`python -m bench.relay KIND VIEWERS`: one measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=main.__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("viewers", type=int)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument(
        "--cap-s", type=float, default=ONE_HOUR_S, help="after which the camera ends a session"
    )
    parser.add_argument("--on-one-core", action="store_true")
    parser.add_argument("--at-once", action="store_true", help="all viewers join at the same moment")
    asked = parser.parse_args()
    found = measure_relay(
        asked.kind,
        asked.viewers,
        seconds=asked.seconds,
        cap_s=asked.cap_s,
        on_one_core=asked.on_one_core,
        at_once=asked.at_once,
    )
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
