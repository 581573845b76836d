"""
Customers of the tenant `bench`, each with a home, a camera and a session, so that a browser may see a few cameras only.

Each may see the events of their own camera, and by a grant those of the next one's. `python -m bench.customers COUNT` fills
the database of `DATABASE_URL` and prints one JSON list of what their browsers send and may see.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict

import django
from django.conf import settings
from django.test import Client

from bench.browsers import Viewer
from bench.server import HOME, ROOT


def make_customers(env: Mapping[str, str], count: int) -> list[Viewer]:
    """The customers' viewers. Call it after `bench.server.prepare`; `bench.load` posts for so many homes."""
    printed = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "bench.customers", str(count)],
        cwd=ROOT,
        env={**env, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    return [Viewer(**viewer) for viewer in json.loads(printed.splitlines()[-1])]


def _main(count: int) -> None:
    django.setup()
    from accounts.models import Membership, Role, Tenant, User
    from devices.grants import Grant
    from devices.models import Device
    from portal.walls import enter_all_tenants
    from tests.support.cast import NOW, make_linked_account

    enter_all_tenants("a benchmark makes its customers")
    tenant = Tenant.objects.get(slug="bench")
    members: list[Membership] = []
    cameras: list[Device] = []
    for number in range(count):
        # No password: they are signed in below, and hashing fifty would take longer than some of what is measured.
        user = User.objects.create_user(f"customer{number}@bench.example")
        members.append(Membership.objects.create(tenant=tenant, user=user, role=Role.CUSTOMER))
        account = make_linked_account(tenant, user, ring_id=f"ava1.ring.account.{HOME}{number}")
        cameras.append(
            Device.objects.create(
                tenant=tenant,
                ring_account=account,
                ring_id=f"ava1.ring.device.{HOME}{number}",
                name=f"Camera {number}",
                seen_at=NOW,
            )
        )
    viewers: list[Viewer] = []
    for member, own, granted in zip(members, cameras, [*cameras[1:], cameras[0]], strict=True):
        Grant.objects.create(tenant=tenant, membership=member, device=granted, events=True)
        client = Client()
        client.force_login(member.user)
        cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
        viewers.append(Viewer((f"Cookie: {cookie}", "Origin: http://127.0.0.1"), (own.name, granted.name)))
    sys.stdout.write(json.dumps([asdict(viewer) for viewer in viewers]) + "\n")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
