"""A whole installation for a test: the sandbox as Ring, the portal's processes, two tenants."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from tests.support.portal_process import PortalProcess, free_port, wait_for
from tests.support.sandbox_process import SandboxProcess, app_for

PASSWORD = "a long walk by the sea"
TENANTS = ("acme", "harbor")


@dataclass
class Installation:
    """`acme` and `harbor` are tenants, each with an owner `owner@<slug>.example`."""

    portal: PortalProcess
    sandbox: SandboxProcess

    def api_token(self, tenant: str) -> str:
        printed = self.portal.manage("create_api_token", tenant, "--name", "test", "--scope", "read", "write")
        found = re.search(r"ppt_[\w-]+", printed)
        assert found, "create_api_token printed no token"
        return found.group()

    def api(self, token: str, path: str) -> Any:
        """The `data` of one JSON:API answer."""
        answer = requests.get(
            f"{self.portal.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@contextmanager
def installation(
    folder: Path, *, time_scale: float = 0.05, env: dict[str, str] | None = None
) -> Iterator[Installation]:
    """`env` adds to the environment of the portal's processes."""
    port = free_port()
    portal_url = f"http://127.0.0.1:{port}"
    apps = [app_for(slug, portal_url) for slug in TENANTS]
    with (
        SandboxProcess(apps=apps, portal_url=portal_url, time_scale=time_scale) as sandbox,
        PortalProcess(folder, ring_url=sandbox.url, port=port, env=env) as portal,
    ):
        portal.manage_in_turn(*(command for app in apps for command in _tenant_commands(app)))
        yield Installation(portal, sandbox)


def _tenant_commands(app: dict[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    slug = app["client_id"].removesuffix("-client")
    ring = {"RING_CLIENT_SECRET": app["client_secret"], "RING_SIGNING_KEY": app["signing_key"]}
    yield ["create_tenant", slug, "--name", app["name"], "--client-id", app["client_id"]], ring
    yield ["add_member", slug, f"owner@{slug}.example", "--role", "owner"], {"MEMBER_PASSWORD": PASSWORD}


class Person(requests.Session):
    """Somebody with a browser that knows forms and cookies, but no script."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.base_url = base_url

    def submit(
        self, page: requests.Response, *, action: str = "", timeout: float = 30, **fields: str
    ) -> requests.Response:
        """Fill in and send the page's form whose address contains `action` (the page's own when empty)."""
        for match in re.finditer(r"<form\b([^>]*)>(.*?)</form>", page.text, re.DOTALL):
            attributes, inside = match.groups()
            found = re.search(r'action="([^"]*)"', attributes)
            target = unescape(found.group(1)) if found else page.url
            if 'method="post"' not in attributes.lower() or action not in target:
                continue
            hidden = {}
            for tag in re.findall(r"<input\b[^>]*>", inside):
                name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
                if name and value and 'type="hidden"' in tag:
                    hidden[name.group(1)] = unescape(value.group(1))
            return self.post(
                urljoin(page.url, target),
                data={**hidden, **fields},
                headers={"Referer": page.url},
                timeout=timeout,
            )
        raise AssertionError(f"No form for {action!r} on {page.url}")

    def sign_in(self, email: str) -> requests.Response:
        """With the password of this file; return home."""
        page = self.get(urljoin(self.base_url, "/accounts/login/"), timeout=30)
        home = self.submit(page, action="/accounts/login/", login=email, password=PASSWORD)
        assert "/accounts/" not in home.url, f"Signing in led to {home.url}"
        return home

    def as_script(self) -> dict[str, str]:
        """The headers of a request that a page's script makes."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        return {"Cookie": cookies, "X-CSRFToken": self.cookies["csrftoken"], "Referer": self.base_url}

    def sign_up(self, link_url: str, email: str) -> requests.Response:
        """Arrive from Ring, create an account; return the confirmation page."""
        welcome = self.get(link_url, timeout=30)
        assert welcome.status_code == 200, welcome.text
        found = re.search(r'href="(/accounts/signup/[^"]*)"', welcome.text)
        assert found, "The link page offers no sign-up"
        form = self.get(urljoin(self.base_url, unescape(found.group(1))), timeout=30)
        confirm = self.submit(form, action="/accounts/signup/", email=email, password1=PASSWORD)
        assert "/link/" in confirm.url, f"Signing up led to {confirm.url}"
        return confirm


def wait_until_linked(installed: Installation, token: str, *, timeout_s: float = 60) -> Any:
    """The tenant's first linked Ring account, once there is one."""

    def linked() -> Any:
        accounts = installed.api(token, "accounts")
        return next((row for row in accounts if row["attributes"]["state"] == "linked"), None)

    return wait_for(linked, timeout_s=timeout_s, what="the link")


def ada_shares(installed: Installation, camera: str = "Garden") -> tuple[str, str]:
    """Ada signs up (ada@customer.example) and links her home to `acme`: an API token of acme, and her camera's id."""
    token = installed.api_token("acme")
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    ada = Person(installed.portal.url)
    ada.submit(ada.sign_up(link["redirect_url"], "ada@customer.example"), action="/link/")
    wait_until_linked(installed, token)
    [found] = wait_for(
        lambda: [d for d in installed.api(token, "devices") if d["attributes"]["name"] == camera],
        what="the camera",
    )
    return token, str(found["id"])


def open_at_ring(installed: Installation) -> int:
    """How many live sessions Ring's ledger says are open."""
    return sum(session["ended_ms"] is None for session in installed.sandbox.control("GET", "/sessions"))


def dump(value: Any) -> str:
    """For messages of failed assertions."""
    return json.dumps(value, indent=1)[:2000]
