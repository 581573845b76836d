"""`make bench`: every figure against its named peer in the same run; a table, and `bench/results/latest.json`."""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import intake, relay

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="Rounds a figure; ours and the peer's turn about."
    )
    options = parser.parse_args()
    figures = [intake.measure(rounds=options.rounds), *relay.measure(rounds=options.rounds)]
    sys.stdout.write(f"{'figure':<44}{'ours':>10}{'peer':>10}{'ratio':>8}  peer\n")
    for figure in figures:
        sys.stdout.write(
            f"{figure.name:<44}{figure.ours:>10.0f}{figure.peer:>10.0f}{figure.ratio:>8.2f}  {figure.peer_name}\n"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "figures": [{**asdict(figure), "ratio": round(figure.ratio, 2)} for figure in figures],
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
