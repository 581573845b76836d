"""What events tell the apps above them."""

from django.dispatch import Signal

# One event is durable and its own effects are done. Argument `event`. Sent once per event by the effects task, inside
# its transaction and again if that transaction is rolled back: receivers only touch the database or enqueue tasks.
event_recorded = Signal()
