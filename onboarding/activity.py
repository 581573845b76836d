"""How the set-up of a company reads in the activity."""

from accounts.activity import say


def register() -> None:
    say("setup.check_started", "started a check of the set-up")
    say("test_event.sent", "sent a test event")
    say("certification.ticked", "ticked one of Ring’s demands")
    say("certification.unticked", "took a tick from one of Ring’s demands")
