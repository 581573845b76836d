"""What a partner cannot know of Ring, as knobs: each turns the simulated Ring to another reading (contract 17.3, 18)."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.media import FORCEABLE


@dataclass(frozen=True)
class Knob:
    """`values` are what it may be set to; not set, the sandbox does what the documentation says, or seems to."""

    values: tuple[object, ...]
    does: str


_ON_OFF = (True, False)

KNOBS: dict[str, Knob] = {
    "app_integrations_shape": Knob(("flat", "jsonapi"), "The answer of app-integrations (contract 2.8)."),
    "post_repeat": Knob(
        ("same", "invalid_nonce"),
        "The POST repeated with a nonce that was used: the same answer again, or Invalid Nonce (18 row 7).",
    ),
    "patch_repeat": Knob(
        ("same", "invalid_transition"),
        "completed told once more: the same answer again, or Invalid Status Transition (2.9).",
    ),
    "data_while_awaiting": Knob(_ON_OFF, "false: devices are forbidden until the PATCH arrived (18 row 5)."),
    "code_on_sign_in": Knob(_ON_OFF, "Sign In again sends a new code as well (18 row 9)."),
    "oauth_errors": Knob(("flat", "jsonapi"), "The shape of the token endpoint's errors (18 row 11)."),
    "token_answer": Knob(
        ("documented", "loose"), "loose: expires_in as text, scope as a list, an unknown field (2.3)."
    ),
    "refuse_refresh": Knob(_ON_OFF, "Every refresh is answered with invalid_grant (4)."),
    "no_rotation": Knob(_ON_OFF, "A refresh gives the same refresh token back (4)."),
    "refresh_grace": Knob(_ON_OFF, "A refresh token that was used lives on for two minutes (18 row 12)."),
    "users_me_403": Knob(_ON_OFF, "users/me says 403 where a token is bad (18 row 10)."),
    "integration_source_type": Knob(
        ("users", "accounts"), "source_type of the webhooks about a link (18 row 15)."
    ),
    "plan_gating": Knob(_ON_OFF, "false: a home without a Ring plan still gives data and events (14)."),
    "media_force": Knob(FORCEABLE, "The answer of clips and images (11)."),
    "sub_type_position": Knob(
        ("attributes", "data", "both"), "Where an event's sub type stands (9.5; 18 row 14)."
    ),
    "history_next_on_empty": Knob(_ON_OFF, "links.next also at the end of the history (18 row 20)."),
}
