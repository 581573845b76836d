from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Webhooks in, durable events, live dashboards out."""

    name = "events"

    def ready(self) -> None:
        """Listen to the apps below."""
        from accounts import personal_data
        from events import (
            activity,
            receivers,  # noqa: F401 - importing it connects the receivers
        )
        from events.personal_data import Events

        activity.register()
        personal_data.register(Events())
