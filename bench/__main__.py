"""
`make bench`: every figure against its named peer in the same run; a table, and `bench/results/latest.json`.

`python -m bench PART …` measures only those parts. The file is written after each; its figures replace the part's earlier ones.

  intake      webhooks taken in durably, requests/s; also with a wait before each flush to the disk
  fanout      events to open browsers: memory, frames/s, ways to the frame and answers to webhooks, at the 99th percentile
  feed        the first page of a tenant's million events
  relay       the live relay: CPU of a viewer, against three others
  relay-long  the live relay over changes of session, and for ten minutes
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import fanout, feed, intake, relay
from bench.figure import Figure
from bench.services import Services, services

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"
PARTS: dict[str, Callable[[Services, int], list[Figure]]] = {
    "intake": lambda installation, rounds: intake.measure(installation, rounds=rounds),
    "fanout": lambda installation, rounds: fanout.measure(installation, rounds=rounds),
    "feed": lambda installation, _: feed.measure(installation),
    "relay": lambda _, rounds: relay.measure(rounds=rounds),
    "relay-long": lambda *_: relay.measure_long(),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="all by default")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds a figure; ours and the peer's turn about"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with services() as installation:
        sys.stdout.write(f"{'figure':<60}{'ours':>10}{'peer':>10}{'ratio':>8}  peer\n")
        for part in options.parts or PARTS:
            measured = PARTS[part](installation, options.rounds)
            for figure in measured:
                sys.stdout.write(
                    f"{figure.name:<60}{figure.ours:>10.1f}{figure.peer:>10.1f}{figure.ratio:>8.2f}  {figure.peer_name}\n"
                )
            sys.stdout.flush()
            _keep(part, measured)


def _keep(part: str, measured: list[Figure]) -> None:
    """Put the part's figures into the file, in place of its earlier ones."""
    earlier = json.loads(RESULTS.read_text())["figures"] if RESULTS.exists() else []
    figures = [figure for figure in earlier if figure["part"] != part]
    figures += [
        {**asdict(figure), "ratio": round(figure.ratio, 2), "part": part, **_circumstances()}
        for figure in measured
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"figures": figures}, indent=2) + "\n")


def _circumstances() -> dict[str, object]:
    """When, on how many cores, and how busy they were."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
