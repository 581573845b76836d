"""The mails a portal process has sent, as files (`filemail://`)."""

import email
import email.policy
import re
from pathlib import Path

from tests.support.portal_process import PortalProcess, wait_for


def mails_to(portal: PortalProcess, address: str) -> list[str]:
    """The text of each mail to `address`, oldest first."""
    found = []
    for path in sorted((portal.folder / "mails").glob("*"), key=lambda file: file.stat().st_mtime_ns):
        for part in _messages(path):
            message = email.message_from_bytes(part, policy=email.policy.default)
            if address in str(message["To"]):
                body = message.get_body(("plain",))
                found.append(body.get_content() if body is not None else "")
    return found


def link_in_mail(portal: PortalProcess, address: str, *, about: str, timeout_s: float = 20) -> str:
    """The newest link to `address` whose path contains `about`, once it is there."""

    def newest() -> str:
        links = [link for text in mails_to(portal, address) for link in re.findall(r"https?://\S+", text)]
        return next((link for link in reversed(links) if about in link), "")

    return wait_for(newest, timeout_s=timeout_s, what=f"a mail to {address}")


def _messages(path: Path) -> list[bytes]:
    """Django writes one file a connection; a line of dashes ends each message."""
    return [part.lstrip(b"\n") for part in re.split(rb"\n-{79}\n", path.read_bytes()) if part.strip()]
