"""
What other apps may want to know about a Ring account; each is sent with `account` (and only that).

Sent inside the transaction that changes the row: receivers touch the database or enqueue tasks, nothing else.
"""

from django.dispatch import Signal

ring_account_claimed = Signal()
"""A person has proved that the account is theirs; Ring has not been told yet."""

ring_account_linked = Signal()
"""Ring knows too: devices, events and video may be had from now on."""

ring_account_unlinking = Signal()
"""
The link is being ended from our side, and `account` still carries its tokens: the last chance to plan what needs them.

A receiver that has to tell Ring something makes a `parting_client` and uses it on commit, never inside the transaction.
Not sent when Ring ended the link: its tokens are dead by then (contract 2.10).
"""

ring_account_unlinked = Signal()
"""The tokens are gone, and whatever needs them must end."""

invitation_accepted = Signal()
"""Sent with `invitation` and `membership`, in the transaction that accepts: what waited on the invitation moves over."""
