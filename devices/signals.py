"""
What other apps may want to know about a device; each is sent with `device` (and only that), but for the last.

Sent inside the transaction that changes the row: receivers touch the database or enqueue tasks, nothing else.
"""

from django.dispatch import Signal

device_synced = Signal()
"""Ring described the device and its row says so now. Sent on every sync, also when nothing is new."""

device_offline = Signal()
"""The device went offline: live sessions with it cannot go on."""

device_plan_ended = Signal()
"""The plan that covered the device ended: live sessions with it must end."""

device_removed = Signal()
"""The device is not shared with us any more: whatever uses it must end."""

inventory_changed = Signal()
"""A list of devices looks different now: one came, went, is called otherwise, is online or not, or Ring answered the first time.

Sent with `account`, once for all that one answer changed.
"""
