from django.apps import AppConfig


class MediaConfig(AppConfig):
    name = "media"

    def ready(self) -> None:
        from accounts import personal_data
        from media import (
            activity,
            receivers,  # noqa: F401 - models must be loaded first
        )
        from media.personal_data import Media

        activity.register()

        personal_data.register(Media())
