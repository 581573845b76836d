"""The sandbox as its users run it: a process on free ports, driven through its control plane."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.support.portal_process import answers, free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def app_for(slug: str, portal_url: str) -> dict[str, str]:
    """The Ring app of tenant `slug`, with the credentials `tests.support.cast.make_tenant` gives it."""
    base = f"{portal_url}/ring/{slug}"
    return {
        "client_id": f"{slug}-client",
        "client_secret": f"{slug}-secret",
        "signing_key": f"{slug}-key",
        "name": slug.title(),
        "token_exchange_url": f"{base}/token",
        "account_link_url": f"{base}/link",
        "webhook_url": f"{base}/webhook",
        "app_homepage_url": f"{base}/home",
        "redirect_uri": f"{portal_url}/accounts/ring/{slug}/login/callback/",
    }


class SandboxProcess:
    """Use as a context manager. `apps` as the file of `--apps`; without it the built-in app at `portal_url`."""

    def __init__(
        self,
        *,
        apps: list[dict[str, str]] | None = None,
        portal_url: str = "http://127.0.0.1:8000",
        state: Path | None = None,
        time_scale: float = 0.01,
        token: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.media_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**os.environ, **(env or {})}
        self._folder = tempfile.TemporaryDirectory()
        self.command = [
            sys.executable, "-m", "sandbox", "--port", str(self.port), "--media-port", str(self.media_port),
            "--time-scale", str(time_scale), "--portal-url", portal_url,
        ]  # fmt: skip
        if apps is not None:
            path = Path(self._folder.name) / "apps.json"
            path.write_text(json.dumps(apps))
            self.command += ["--apps", str(path)]
        if state is not None:
            self.command += ["--state", str(state)]
        if token is not None:
            self.command += ["--token", token]
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self.child = subprocess.Popen(self.command, cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL)
        wait_for(lambda: answers(f"{self.url}/healthz"), timeout_s=30, what="the sandbox")

    def stop(self) -> None:
        if self.child is not None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.child = None

    def kill(self) -> None:
        """`kill -9`."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call the control plane (`path` below `/control`); return its JSON. Raises HTTPError for a refusal."""
        request = urllib.request.Request(
            f"{self.url}/control{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
