"""Pages of many cameras take as many queries as pages of one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from devices.models import Device
from media.models import Clip, FetchState, Picture
from media.pictures import latest_picture, latest_pictures
from tests.support.cast import TenantCast, make_camera


def keep_picture(camera: Device, *, component_id: str = "", minutes: int = 0) -> Picture:
    taken_at = timezone.now() - timedelta(minutes=minutes)
    picture: Picture = Picture.objects.create(
        tenant=camera.tenant,
        device=camera,
        component_id=component_id,
        asked_at=taken_at,
        taken_at=taken_at,
        state=FetchState.READY,
    )
    return picture


@pytest.mark.parametrize(
    "name", ["events:dashboard", "devices:list", "media:wall", "media:clips", "events:list"]
)
def test_queries_do_not_grow_with_the_cameras(
    cast: TenantCast, make_clip: Callable[..., Clip], name: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        camera = make_camera(cast.ada_account, f"Camera {number}")
        Device.objects.filter(pk=camera.pk).update(is_battery_powered=True)
        keep_picture(camera)
        make_clip(device=camera)
    client = Client()
    client.force_login(cast.operator.user)

    with django_assert_max_num_queries(18):
        assert client.get(reverse(name, args=["acme"])).status_code == 200


def test_each_camera_gets_its_own_newest_picture(cast: TenantCast) -> None:
    double, single, bare = (make_camera(cast.ada_account, name) for name in ("Double", "Single", "Bare"))
    double.components = ["0", "1"]
    double.save()
    keep_picture(double, component_id="0", minutes=9)
    left = keep_picture(double, component_id="0", minutes=5)
    right = keep_picture(double, component_id="1", minutes=7)
    only = keep_picture(single)
    Picture.objects.create(tenant=cast.tenant, device=bare, asked_at=timezone.now())

    known = latest_pictures([double, single, bare])

    assert known.of(double, "0") == latest_picture(double, "0") == left
    assert known.of(double, "1") == latest_picture(double, "1") == right
    assert latest_picture(double) == left
    assert known.of(single) == latest_picture(single) == only
    assert known.of(bare) is latest_picture(bare) is None
