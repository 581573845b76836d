"""A partner's server for the sandbox's tests: takes codes and webhooks down and answers as told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from tests.support.sandbox_process import SandboxProcess

CLIENT = "acme-client"


class Partner:
    """It shares nothing with the portal. `webhook_statuses` are its next answers; then it says 200."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.token_requests: list[dict[str, Any]] = []
        self.webhooks: list[tuple[dict[str, Any], str, bytes]] = []
        self.order: list[str] = []
        self.webhook_statuses: list[int] = []
        self.token_status = 200
        partner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.path.endswith("/token"):
                    partner.order.append("token")
                    partner.token_requests.append({"type": self.headers.get("Content-Type"), "body": body})
                    text = body.decode()
                    code = json.loads(text)["code"] if text.startswith("{") else parse_qs(text)["code"][0]
                    partner.codes.append(code)
                    status = partner.token_status
                else:
                    event = json.loads(body)
                    partner.order.append(event["data"]["type"])
                    partner.webhooks.append((event, self.headers["X-Signature"], body))
                    status = partner.webhook_statuses.pop(0) if partner.webhook_statuses else 200
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            request_queue_size = (
                256  # bursts come in; with five places, Linux would let the others wait for seconds
            )

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def types(self) -> list[str]:
        return [event["data"]["type"] for event, _, _ in self.webhooks]


def exchange(sandbox: SandboxProcess, **fields: str) -> requests.Response:
    form = {"client_id": CLIENT, "client_secret": "acme-secret", **fields}
    return requests.post(f"{sandbox.url}/oauth/token", data=form, timeout=10)


def link(sandbox: SandboxProcess, partner: Partner, **options: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Install as Ada and exchange the code; return what /control/link said, and the tokens."""
    linked = sandbox.control("POST", "/link", {"client_id": CLIENT, "account": "ada", **options})
    tokens = exchange(sandbox, grant_type="authorization_code", code=partner.codes[-1])
    assert tokens.status_code == 200
    return linked, tokens.json()


def call(sandbox: SandboxProcess, method: str, path: str, token: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    return requests.request(
        method, f"{sandbox.url}{path}", headers=headers, timeout=30, allow_redirects=False, **options
    )


def complete(sandbox: SandboxProcess, linked: dict[str, Any], token: str) -> None:
    """What a partner does once its customer has signed in: POST with the nonce, then PATCH."""
    given = parse_qs(urlsplit(linked["redirect_url"]).query)["nonce"][0]
    path = "/v1/accounts/me/app-integrations"
    assert call(sandbox, "POST", path, token, json={"nonce": given}).status_code == 200
    assert call(sandbox, "PATCH", path, token, json={"status": "completed"}).status_code == 200


def linked_token(sandbox: SandboxProcess, partner: Partner, **options: Any) -> str:
    """An access token of a completed link."""
    linked, tokens = link(sandbox, partner, **options)
    complete(sandbox, linked, tokens["access_token"])
    return tokens["access_token"]


def device_id(sandbox: SandboxProcess, token: str, name: str) -> str:
    rows = call(sandbox, "GET", "/v1/devices", token).json()["data"]
    return str(next(row["id"] for row in rows if row["attributes"]["name"] == name))
