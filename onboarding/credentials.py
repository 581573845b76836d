"""
Are the credentials good? Asked of the sandbox only.

Ring documents no request that tells without being one: a made-up code might count against the tenant, and its errors
are not documented (contract 2.3). So for the real Ring the first link tells (`accounts.ring_app.answers_recorded`).
"""

from dataclasses import dataclass

from accounts.models import RingApp
from accounts.ring_app import answers_recorded
from accounts.services import ring_config
from accounts.tokens import impatient
from onboarding.checklist import is_sandbox
from ring.errors import ClientRejected, CodeRejected, RingError
from ring.oauth import exchange_code

MADE_UP_CODE = "portal-credential-check"


@dataclass(frozen=True)
class Answer:
    """What to tell the admin."""

    is_good: bool
    words: str


def ask_sandbox(app: RingApp) -> Answer:
    """Offer the sandbox a made-up code: it refuses the code when it knows the client. Never asks the real Ring."""
    if not is_sandbox():
        raise ValueError("Only the sandbox may be asked.")
    try:
        with answers_recorded(app):
            exchange_code(
                config=impatient(ring_config()),
                client_id=app.client_id,
                client_secret=app.client_secret,
                code=MADE_UP_CODE,
            )
    except CodeRejected:
        return Answer(True, "The sandbox knows these credentials.")
    except ClientRejected:
        return Answer(
            False,
            "The sandbox does not know this client id with this secret. Compare both with its list of apps.",
        )
    except RingError:
        return Answer(False, "The sandbox did not answer. Start it, and ask again.")
    return Answer(False, "The sandbox took a made-up code, which it never should.")
