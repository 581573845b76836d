from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import personal_data, receivers, sign_in_trail  # noqa: F401 - importing them connects the receivers
        from accounts.own_data import People

        personal_data.register(People())
