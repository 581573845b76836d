"""How what admins do with deliveries reads in the activity."""

from accounts.activity import say


def register() -> None:
    say("delivery.replayed", "took deliveries in again")
