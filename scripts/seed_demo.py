"""The demo's tenants and people, in one process: `seed_demo.py APPS.json`. Run again it changes nothing."""

import io
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("owner", "operator")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    import django
    from django.core.management import call_command

    django.setup()
    quiet = {"verbosity": 0, "stdout": io.StringIO()}
    call_command("migrate", **quiet)
    for app in json.loads(Path(sys.argv[1]).read_text()):
        slug = app["slug"]
        os.environ["RING_CLIENT_SECRET"] = app["client_secret"]
        os.environ["RING_SIGNING_KEY"] = app["signing_key"]
        call_command(
            "create_tenant",
            slug,
            name=app["name"],
            client_id=app["client_id"],
            accent=app["accent"],
            **quiet,
        )
        for role in ROLES:
            call_command("add_member", slug, f"{role}@{slug}.example", role=role, **quiet)
    call_command("ensure_staff", "staff@portal.example", **quiet)


if __name__ == "__main__":
    main()
