"""What may go wrong on the way to Ring and back, and what the person is told."""

from enum import StrEnum

from accounts.refusals import NextStep, RefusalText


class Trouble(StrEnum):
    """The reason, as it is written into the audit trail."""

    DENIED = "denied"
    STATE = "state"
    CODE = "code"
    RING_DOWN = "ring_down"
    RING_SAID_NO = "ring_said_no"
    NOT_YET = "not_yet"
    TOO_OFTEN = "too_often"


_NOTHING = "Nothing was linked."
_AGAIN = "Begin again with the button below."

TEXTS: dict[Trouble, RefusalText] = {
    Trouble.DENIED: RefusalText(
        title="You did not allow it",
        what_happened="At Ring you chose not to share your devices.",
        how_things_are=_NOTHING,
        what_to_do="If that is what you wanted, there is nothing to do. Else begin again with the button below.",
        status=403,
        next_step=NextStep.TRY_AGAIN,
    ),
    Trouble.STATE: RefusalText(
        title="This answer from Ring does not fit",
        what_happened="It belongs to another browser, another sign-in or an earlier attempt, took longer than ten minutes, or "
        "was used already.",
        how_things_are=_NOTHING,
        what_to_do=_AGAIN,
        status=400,
        next_step=NextStep.TRY_AGAIN,
        otherwise="If you did not begin this yourself, somebody may have sent you the address: close the page.",
    ),
    Trouble.CODE: RefusalText(
        title="Ring’s permission has run out",
        what_happened="Ring gives us a code that is good for ten minutes, once. This one was too old, or was used already.",
        how_things_are=_NOTHING,
        what_to_do=_AGAIN,
        status=410,
        next_step=NextStep.TRY_AGAIN,
    ),
    Trouble.RING_DOWN: RefusalText(
        title="Ring cannot be reached",
        what_happened="Ring did not answer when we asked for the permission you gave.",
        how_things_are=_NOTHING,
        what_to_do="Wait a minute, then begin again with the button below.",
        status=503,
        next_step=NextStep.TRY_AGAIN,
        otherwise="If it stays so, tell the company's support: it is not your fault.",
    ),
    Trouble.RING_SAID_NO: RefusalText(
        title="Ring sent you back without a permission",
        what_happened="Ring did not accept our request.",
        how_things_are=_NOTHING,
        what_to_do="Begin again with the button below.",
        status=502,
        next_step=NextStep.TRY_AGAIN,
        otherwise="If Ring refuses once more, tell the company's support; they see the reason in their records.",
    ),
    Trouble.NOT_YET: RefusalText(
        title="Ring has not told us everything yet",
        what_happened="You have given your permission, and we keep it. Ring has not answered yet whose account it is.",
        how_things_are="We keep asking, and finish the link by ourselves.",
        what_to_do="Look again in a minute: your devices will be here. You need not begin again.",
        status=503,
        next_step=NextStep.TO_THE_DEVICES,
    ),
    Trouble.TOO_OFTEN: RefusalText(
        title="That was very often",
        what_happened="You went to Ring many times within a minute.",
        how_things_are="Nothing was changed.",
        what_to_do="Wait a minute, then begin again with the button below.",
        status=429,
        next_step=NextStep.TRY_AGAIN,
    ),
}
