from django.apps import AppConfig


class DevicesConfig(AppConfig):
    """What Ring shares with us, kept in step with Ring."""

    name = "devices"

    def ready(self) -> None:
        from accounts import personal_data
        from devices import (
            activity,
            receivers,  # noqa: F401 - importing connects them
        )
        from devices.personal_data import Inventory

        activity.register()
        personal_data.register(Inventory())
