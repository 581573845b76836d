from django.apps import AppConfig


class RingProviderConfig(AppConfig):
    name = "accounts.providers.ring"
    label = "ring_provider"
