from django.apps import AppConfig


class OnboardingConfig(AppConfig):
    """From credentials to the first linked customer, and on to Ring's certification."""

    name = "onboarding"

    def ready(self) -> None:
        from onboarding import activity

        activity.register()
