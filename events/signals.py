"""What events tell the apps above them."""

from django.dispatch import Signal

# One event is durable and its own effects are done. Argument `event`. Sent once per event by the effects task, inside
# its transaction and again if that transaction is rolled back: receivers only touch the database or enqueue tasks.
# Each may return a short sentence of what it set in motion, for the delivery inspector.
event_recorded = Signal()

# Events are about to be deleted because they are older than their tenant keeps them. Argument `event_ids`. Sent inside
# the transaction that deletes them: receivers delete what is nothing without its event.
events_expiring = Signal()
