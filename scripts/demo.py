"""
`make demo`: everything from nothing on SQLite: portal, sandbox as Ring, workers, demo tenants. Ctrl-C ends it all.

State lives in `var/demo/`, so a second run finds the linked homes again; delete the folder to begin anew.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass

from processes import (
    ROOT,
    Supervisor,
    fail,
    require_free_port,
    wait_until_ready,
    web_command,
    worker_commands,
)

FOLDER = ROOT / "var" / "demo"
# Known to everybody who reads this: the demo listens on loopback only.
PASSWORD = "quiet-lantern-42"  # noqa: S105


STAFF_FACTOR = FOLDER / "staff-totp"
"""The secret of the staff's authenticator app, made once; `make staff-code` shows its six digits."""


@dataclass(frozen=True)
class DemoTenant:
    slug: str
    name: str
    accent: str


TENANTS = (
    DemoTenant("northlight", "Northlight Monitoring", "#2257d6"),
    DemoTenant("harbor", "Harbor Homes", "#0f766e"),
)


def write_apps(portal_url: str) -> None:
    """Write the Ring apps of the demo tenants, with secrets made once and kept in `var/demo/apps.json`."""
    path = FOLDER / "apps.json"
    kept = {app["client_id"]: app for app in json.loads(path.read_text())} if path.exists() else {}
    apps = []
    for tenant in TENANTS:
        client_id = f"{tenant.slug}-client"
        before = kept.get(client_id, {})
        base = f"{portal_url}/ring/{tenant.slug}"
        apps.append(
            {
                "slug": tenant.slug,
                "client_id": client_id,
                "client_secret": before.get("client_secret") or secrets.token_urlsafe(32),
                "signing_key": before.get("signing_key") or secrets.token_urlsafe(32),
                "name": tenant.name,
                "accent": tenant.accent,
                "token_exchange_url": f"{base}/token",
                "account_link_url": f"{base}/link",
                "webhook_url": f"{base}/webhook",
                "app_homepage_url": f"{base}/home",
                "redirect_uri": f"{portal_url}/accounts/ring/{tenant.slug}/login/callback/",
            }
        )
    path.touch(mode=0o600, exist_ok=True)
    path.write_text(json.dumps(apps, indent=2))


def staff_secret() -> str:
    """The demo's second factor for portal staff, in base32."""
    if not STAFF_FACTOR.exists():
        STAFF_FACTOR.touch(mode=0o600)
        STAFF_FACTOR.write_text(base64.b32encode(secrets.token_bytes(20)).decode())
    return STAFF_FACTOR.read_text().strip()


def main() -> None:
    began = time.monotonic()
    port = int(os.environ.get("PORT", "8000"))
    sandbox_port = int(os.environ.get("SANDBOX_PORT", "8001"))
    require_free_port(port, variable="PORT")
    require_free_port(sandbox_port, variable="SANDBOX_PORT")
    require_free_port(sandbox_port + 1, variable="SANDBOX_PORT")
    FOLDER.mkdir(parents=True, exist_ok=True)
    portal_url = f"http://127.0.0.1:{port}"
    sandbox_url = f"http://127.0.0.1:{sandbox_port}"
    write_apps(portal_url)
    env = {
        "DEBUG": "1",
        "DATABASE_URL": f"sqlite:///{FOLDER / 'portal.sqlite3'}",
        "REDIS_URL": "",
        "MEDIA_ROOT": str(FOLDER / "clips"),
        "RING_API_URL": sandbox_url,
        "RING_TOKEN_URL": f"{sandbox_url}/oauth/token",
        "RING_AUTHORIZE_URL": f"{sandbox_url}/account/integrations/partner-link/authorize",
        "PUBLIC_URL": portal_url,
        "EMAIL_URL": f"filemail:///{FOLDER / 'mails'}",
        "CSRF_TRUSTED_ORIGINS": f"{portal_url},http://localhost:{port}",
        "PYTHONUNBUFFERED": "1",
    }
    with Supervisor() as supervisor:
        supervisor.start(
            "sandbox",
            [
                sys.executable,
                "-m",
                "sandbox",
                "--port",
                str(sandbox_port),
                "--apps",
                str(FOLDER / "apps.json"),
                "--state",
                str(FOLDER / "sandbox.json"),
                "--portal-url",
                portal_url,
            ],
            {"PYTHONUNBUFFERED": "1"},
        )
        seeded = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "scripts/seed_demo.py", str(FOLDER / "apps.json")],
            cwd=ROOT,
            env={
                **os.environ,
                **env,
                "MEMBER_PASSWORD": PASSWORD,
                "STAFF_PASSWORD": PASSWORD,
                "STAFF_TOTP_SECRET": staff_secret(),
            },
            check=False,
        )
        if seeded.returncode:
            fail("The demo's tenants could not be made; the lines above say why.")
        supervisor.start("web", web_command(port), env)
        for name, command in worker_commands().items():
            supervisor.start(name, command, env)
        wait_until_ready(f"{sandbox_url}/healthz", timeout_s=60)
        wait_until_ready(f"{portal_url}/healthz/ready", timeout_s=60)
        sys.stdout.write(welcome(portal_url, sandbox_url, time.monotonic() - began))
        sys.stdout.flush()
        supervisor.run()


def welcome(portal_url: str, sandbox_url: str, seconds: float) -> str:
    first, second = TENANTS
    return f"""
  Ready in {seconds:.0f} s.

  Portal    {portal_url}/
  Sandbox   {sandbox_url}/          a Ring that runs on your desk
  Admin     {portal_url}/admin/     staff@portal.example, and six digits: make staff-code
  API       {portal_url}/api/docs/

  Sign-ins (password {PASSWORD}):
    {first.name:<24}owner@{first.slug}.example   operator@{first.slug}.example
    {second.name:<24}owner@{second.slug}.example       operator@{second.slug}.example
    Portal staff            staff@portal.example
      The administration asks for a second step. `make staff-code` prints the six digits of this moment;
      or type this secret into your own authenticator app: {staff_secret()}

  Two minutes, as a customer:
    1. Open the sandbox, choose Ada, open the Appstore, pick {first.name}, share her devices.
    2. You land in the portal: create an account with any address, confirm.
    3. Press the doorbell in the sandbox and watch it arrive; watch the camera live; keep a clip.

  Everything is kept in {FOLDER.relative_to(ROOT)}/ (mails too). Ctrl-C ends it all.

"""


if __name__ == "__main__":
    main()
