"""`python -m sandbox`: a simulated Ring on loopback."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from sandbox.answers import Problem
from sandbox.loopback import LOOPBACK_HOSTS, require_loopback
from sandbox.server import Sandbox
from sandbox.world import App, BrokenState


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="A Ring that runs on your desk: OAuth, linking, devices, signed webhooks, live video and clips.",
        epilog="Everything is simulated and bound to loopback. Pages on /, control plane under /control/.",
    )
    parser.add_argument("--port", type=int, default=8001, help="API, pages and control plane (default 8001)")
    parser.add_argument("--media-port", type=int, help="second origin for downloads (default: port + 1)")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument(
        "--apps",
        type=Path,
        help="JSON list of partner apps: client_id, client_secret, signing_key, name, token_exchange_url, account_link_url, webhook_url, app_homepage_url",
    )
    parser.add_argument(
        "--portal-url",
        default="http://127.0.0.1:8000",
        help="where the built-in app's addresses point, without --apps",
    )
    parser.add_argument(
        "--state", type=Path, help="JSON file to keep links, tokens and deliveries over a restart"
    )
    parser.add_argument(
        "--token", help="accept this bearer, full scope, for the first account of the first app"
    )
    parser.add_argument(
        "--time-scale", type=float, default=1.0, help="factor on the webhook retry delays (0.01 for tests)"
    )
    options = parser.parse_args(arguments)
    options.media_port = options.media_port or options.port + 1
    if options.time_scale < 0:
        parser.error("--time-scale must not be negative")
    return options


def load_apps(path: Path | None, portal_url: str) -> list[App]:
    """The apps of the file, or the built-in one. Raises Problem when an address is not on loopback."""
    known = App.__dataclass_fields__
    if path is not None:
        apps = [App(**{k: v for k, v in row.items() if k in known}) for row in json.loads(path.read_text())]
        if not apps:
            raise ValueError("the list is empty")
    else:
        base = f"{portal_url.rstrip('/')}/ring/demo"
        apps = [
            App(
                "sandbox-client",
                "sandbox-secret",
                "sandbox-signing-key",
                "Demo Partner",
                f"{base}/token",
                f"{base}/link",
                f"{base}/webhook",
                f"{base}/home",
            )
        ]
    for app in apps:
        for url in app.urls:
            require_loopback(url)
    return apps


async def serve(options: argparse.Namespace, apps: list[App]) -> None:
    sandbox = Sandbox(
        host=options.host,
        port=options.port,
        media_port=options.media_port,
        apps=apps,
        state=options.state,
        time_scale=options.time_scale,
        token=options.token,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def ready() -> None:
        sys.stdout.write(f"sandbox ready on {sandbox.url}\n")
        sys.stdout.flush()

    await sandbox.run(stop, ready)


def main() -> None:
    options = parse_arguments(sys.argv[1:])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s sandbox %(levelname)s %(message)s")
    if options.host not in LOOPBACK_HOSTS:
        raise SystemExit("The sandbox is for one desk: --host must be a loopback address.")
    try:
        require_loopback(options.portal_url)
        apps = load_apps(options.apps, options.portal_url)
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(f"--apps {options.apps} cannot be used: {error}") from None
    except Problem as problem:
        raise SystemExit(f"{problem} Check the addresses of --apps or --portal-url.") from None
    try:
        asyncio.run(serve(options, apps))
    except BrokenState as error:
        raise SystemExit(f"--state cannot be used: {error}. Remove the file to begin anew.") from None
    except OSError as error:
        raise SystemExit(
            f"The sandbox cannot listen on ports {options.port} and {options.media_port}: {error.strerror}. "
            "Choose another --port."
        ) from None


if __name__ == "__main__":
    main()
