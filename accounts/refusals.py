"""Why a link may be refused, and what the person is told: what happened, what state things are in, what to do."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class Refusal(StrEnum):
    """The reason, as it is written into the audit trail and into `RingAccount.last_error`."""

    MALFORMED = "malformed"
    STALE = "stale"
    FUTURE = "future"
    NO_PENDING = "no_pending"
    NO_MATCH = "no_match"
    NOT_YET = "not_yet"
    ALREADY_LINKED = "already_linked"
    SOMEONE_ELSE = "someone_else"
    ELSEWHERE = "elsewhere"
    RING_NONCE = "ring_nonce"
    NOT_INSTALLED = "not_installed"
    RING_REFUSED = "ring_refused"
    LINK_AGAIN = "link_again"
    NOT_SET_UP = "not_set_up"
    BEING_DELETED = "being_deleted"


class LinkRefused(Exception):
    """The link was refused for `reason`; `audited` when the trail has it already."""

    def __init__(self, reason: Refusal, *, audited: bool = False) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.audited = audited


class NextStep(Enum):
    """The one thing to do now, and so the page's button. In the Ring app there is no button of ours."""

    IN_THE_RING_APP = auto()
    TRY_AGAIN = auto()
    CHANGE_PERSON = auto()
    TO_THE_DEVICES = auto()
    ASK_THE_COMPANY = auto()

    @property
    def needs_link(self) -> bool:
        """Whether the step goes on with the link from Ring, so that the session has to keep it."""
        return self in (NextStep.TRY_AGAIN, NextStep.CHANGE_PERSON)


@dataclass(frozen=True)
class RefusalText:
    """What the page says; `status` is its HTTP status. `otherwise`: for whom the next step is not possible."""

    title: str
    what_happened: str
    how_things_are: str
    what_to_do: str
    status: int
    next_step: NextStep = NextStep.IN_THE_RING_APP
    otherwise: str = ""


_SIGN_IN_AGAIN = (
    "Open the Ring app, go to Apps (Ring My Apps), choose this company and tap Sign In again. "
    "You need not install anything a second time."
)
_START_OVER = "Open the Ring app, go to Apps, remove this company and add it again."

TEXTS: dict[Refusal, RefusalText] = {
    Refusal.MALFORMED: RefusalText(
        title="This link is not complete",
        what_happened="A part of the address from Ring is missing or was changed on the way, so we cannot tell whose Ring "
        "account it is.",
        how_things_are="Nothing was linked, and nothing was lost.",
        what_to_do=_SIGN_IN_AGAIN,
        status=400,
    ),
    Refusal.STALE: RefusalText(
        title="This link is too old",
        what_happened="A link from Ring is good for ten minutes, and this one is older.",
        how_things_are="Nothing was linked, and nothing was lost: your Ring account still waits for you here, and an account "
        "you have just created here stays.",
        what_to_do=_SIGN_IN_AGAIN,
        status=410,
    ),
    Refusal.FUTURE: RefusalText(
        title="The clocks do not agree",
        what_happened="This link says it was made in the future, so either Ring's clock or ours is wrong.",
        how_things_are="Nothing was linked, and nothing was lost.",
        what_to_do="Wait a minute, then tap Sign In in the Ring app again.",
        status=400,
        otherwise="If it happens a second time, tell the company's support: it is not your fault, and you cannot mend it.",
    ),
    Refusal.NO_PENDING: RefusalText(
        title="There is no link waiting",
        what_happened="This page finishes a link that begins in the Ring app. This browser has not come from there, or the "
        "link was used already.",
        how_things_are="Nothing was changed.",
        what_to_do=_SIGN_IN_AGAIN,
        status=409,
    ),
    Refusal.NO_MATCH: RefusalText(
        title="We cannot find this Ring account",
        what_happened="No Ring account that waits to be linked fits this link. It may have been used already, or the app was "
        "removed in Ring meanwhile.",
        how_things_are="Nothing was linked.",
        what_to_do=_SIGN_IN_AGAIN,
        status=409,
        otherwise="If that does not help, remove the app there and add it once more.",
    ),
    Refusal.NOT_YET: RefusalText(
        title="Ring has not told us everything yet",
        what_happened="Your link is good, but Ring cannot be reached at the moment, or has not answered yet whose it is.",
        how_things_are="Nothing is linked yet. We keep asking, and your link stays good for ten minutes.",
        what_to_do="Try again in a few seconds.",
        status=503,
        next_step=NextStep.TRY_AGAIN,
    ),
    Refusal.ALREADY_LINKED: RefusalText(
        title="This Ring account is linked already",
        what_happened="It is linked to you, at this company, with the sign-in you are using now.",
        how_things_are="Everything is as it was. There is nothing left to confirm.",
        what_to_do="Go on to your devices.",
        status=409,
        next_step=NextStep.TO_THE_DEVICES,
    ),
    Refusal.SOMEONE_ELSE: RefusalText(
        title="You are signed in as someone else",
        what_happened="This Ring account belongs to another sign-in at this company, so it cannot be added to the one you are "
        "using now.",
        how_things_are="Nothing was changed, and your link from Ring is kept while you change over.",
        what_to_do="Sign in as the person this Ring account was linked by.",
        status=409,
        next_step=NextStep.CHANGE_PERSON,
        otherwise="Is that not you? Ask the person to disconnect it under Settings. The company's support can help you too.",
    ),
    Refusal.ELSEWHERE: RefusalText(
        title="This Ring account cannot be linked here",
        what_happened="A Ring account can be linked in one place at a time, and this one is in use already. We do not say where.",
        how_things_are="Nothing was changed, here or there.",
        what_to_do="Open the Ring app, go to Apps, and remove the app you no longer want. Then choose this company and tap "
        "Sign In again.",
        status=409,
    ),
    Refusal.RING_NONCE: RefusalText(
        title="Ring did not accept the link",
        what_happened="Ring says that the link has run out or was used already.",
        how_things_are="Nothing was linked. Your Ring account still waits for you here.",
        what_to_do=_SIGN_IN_AGAIN,
        status=409,
    ),
    Refusal.NOT_INSTALLED: RefusalText(
        title="Ring does not know this link any more",
        what_happened="Ring says the app is not installed for this Ring account: it was removed meanwhile.",
        how_things_are="Nothing is linked.",
        what_to_do="Open the Ring app, go to Apps, and add this company again from the beginning.",
        status=409,
    ),
    Refusal.RING_REFUSED: RefusalText(
        title="Ring refused the link",
        what_happened="Ring answered our request with a no that trying again will not change.",
        how_things_are="Nothing was linked.",
        what_to_do=_START_OVER,
        status=409,
        otherwise="If it is refused once more, tell the company's support; they see the reason in their records.",
    ),
    Refusal.LINK_AGAIN: RefusalText(
        title="Ring asks you to start over",
        what_happened="The permission Ring gave for this link has ended: it was withdrawn, it ran out, or the link was "
        "disconnected here.",
        how_things_are="Nothing is linked, and we hold no key to your Ring account. What was kept from before is still here.",
        what_to_do=_START_OVER,
        status=409,
    ),
    Refusal.NOT_SET_UP: RefusalText(
        title="This company is not ready yet",
        what_happened="The company has not entered its Ring credentials here, so no Ring account can be linked.",
        how_things_are="Nothing was linked.",
        what_to_do="Tell the company's support. Once it is set up, tap Sign In in the Ring app again.",
        status=503,
        next_step=NextStep.ASK_THE_COMPANY,
    ),
    Refusal.BEING_DELETED: RefusalText(
        title="Your data is being deleted",
        what_happened="What this company holds about you is being deleted at this moment, and a new link would be deleted "
        "with it.",
        how_things_are="Nothing was linked, and the deletion goes on.",
        what_to_do="Wait for the receipt, which comes by mail. To link after all, open the Ring app then, go to Apps, choose "
        "this company and tap Sign In again.",
        status=409,
    ),
}


def refusal_from(text: str) -> Refusal | None:
    """The refusal kept in `RingAccount.last_error`, None when that says something else."""
    return Refusal(text) if text in set(Refusal) else None
