"""`send_test_event` and `doctor`, against real processes."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

import pytest

from accounts.models import RingApp
from devices.models import Device
from events.models import Event
from media import nodes
from portal import workers
from tests.support.cast import TenantCast
from tests.support.installation import Installation, installation


def run(*args: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


# --- send_test_event ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as whole:
        yield whole


def test_a_test_event_goes_the_whole_way_and_is_labelled(installed: Installation):
    printed = installed.portal.manage("send_test_event", "acme", "--type", "button_press")

    assert "answered  200 after" in printed
    assert "told over the websocket" in printed
    assert "worker    has done with it" in printed
    assert "Test: Someone at the door" in printed
    token = installed.api_token("acme")
    [event] = installed.api(token, "events")
    assert (event["attributes"]["is_test"], event["attributes"]["event_type"]) == (True, "button_press")
    assert installed.api(installed.api_token("harbor"), "events") == []
    assert "acme-key" not in printed


def test_the_doctor_finds_a_running_installation_fit_and_says_what_development_lacks(installed: Installation):
    printed = installed.portal.manage("doctor", "acme", "--json")
    found = {line["key"]: line for line in map(json.loads, printed.splitlines())}
    assert {key for key, line in found.items() if line["verdict"] == "bad"} == set()
    assert {
        "database", "migrations", "channels", "worker", "storage", "ring", "signing",
        "url_token", "url_link", "url_webhook", "url_home",
    } <= {key for key, line in found.items() if line["verdict"] == "ok"}  # fmt: skip
    assert found["debug"]["verdict"] == "warn"
    assert "acme-secret" not in printed
    assert "acme-key" not in printed
    with pytest.raises(subprocess.CalledProcessError):
        installed.portal.manage("doctor", "--strict")


def test_the_commands_name_what_is_wrong_when_the_web_process_is_gone(installed: Installation):
    installed.portal.stop("web")
    try:
        for command, words in (
            (("send_test_event", "acme"), "Nothing listens"),
            (("doctor", "acme"), "Something is wrong"),
        ):
            with pytest.raises(subprocess.CalledProcessError) as caught:
                installed.portal.manage(*command)
            assert words in caught.value.stderr
            assert "Traceback" not in caught.value.stderr
    finally:
        installed.portal.start("web")


@pytest.mark.django_db(transaction=True)
def test_a_device_is_named_by_its_name_or_its_id(served: str, cast: TenantCast):
    for given in ("front door", str(cast.ada_camera.public_id)):
        out, _ = run(
            "send_test_event", cast.tenant.slug, "--type", "device_removed", "--device", given, "--wait", "0"
        )
        assert "“Test: Front Door is no longer shared with us”" in out
    assert Event.objects.filter(device=cast.ada_camera).count() == 2
    assert Device.objects.get(pk=cast.ada_camera.pk).removed_at is None


@pytest.mark.django_db(transaction=True)
def test_no_worker_is_an_error_that_says_so(served: str, cast: TenantCast):
    with pytest.raises(CommandError, match="No worker took it"):
        run("send_test_event", cast.tenant.slug, "--wait", "0.2")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nobody",), "no tenant nobody"),
        (("{slug}", "--device", "Attic"), "no device Attic"),
    ],
)
def test_what_does_not_exist_is_named(cast: TenantCast, args, words):
    with pytest.raises(CommandError, match=words):
        run("send_test_event", *(arg.format(slug=cast.tenant.slug) for arg in args))


@pytest.mark.django_db
def test_without_a_key_nothing_is_sent(acme: TenantCast):
    acme.tenant.ring_app.delete()
    with pytest.raises(CommandError, match="no signing key"):
        run("send_test_event", "acme")


# --- the doctor's single findings -------------------------------------------------------------------------------


def examined(*args: str) -> dict[str, tuple[str, str]]:
    """Key → verdict and what was said and advised; whether the doctor is content or not."""
    out = StringIO()
    with suppress(CommandError):
        call_command("doctor", *args, "--json", stdout=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return {line["key"]: (line["verdict"], f"{line['said']} {line['fix']}") for line in lines}


@pytest.fixture
def lonely(acme: TenantCast, settings: LazySettings) -> LazySettings:
    """An installation out of everybody's reach."""
    settings.PUBLIC_URL = "http://127.0.0.1:1"
    settings.RING_API_URL = "http://127.0.0.1:1"
    settings.DEBUG = True
    return settings


def test_a_fit_one_and_what_each_illness_looks_like(lonely: LazySettings):
    workers.beat("one", now=timezone.now())
    found = examined()
    assert found["worker"][0] == "ok"
    assert found["ring"][0] == "note", "out of Ring's reach is no fault"
    assert found["storage"][0] == "ok"
    assert found["credentials"][0] == "note"

    workers.sign_off("one")
    assert examined()["worker"][0] == "bad"
    RingApp.objects.update(refused_at=timezone.now())
    assert examined()["credentials"][0] == "bad"


def test_relaying_by_nodes_needs_one_that_is_alive(lonely: LazySettings):
    assert examined()["relay"][0] == "ok"
    lonely.LIVE_RELAY = "nodes"
    verdict, said = examined()["relay"]
    assert (verdict, "manage.py relay" in said) == ("bad", True)
    nodes.beat("one", "channel", viewers=0, sessions=0, now=timezone.now())
    assert examined()["relay"] == ("ok", "1 node alive. ")


def test_a_storage_that_cannot_be_written_is_named(lonely: LazySettings, tmp_path: Path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    lonely.MEDIA_ROOT = blocked
    verdict, said = examined()["storage"]
    assert verdict == "bad"
    assert "MEDIA_ROOT" in said


def test_a_channel_layer_that_is_away_is_named(lonely: LazySettings):
    lonely.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    verdict, said = examined()["channels"]
    assert verdict == "bad"
    assert "REDIS_URL" in said


def test_a_lost_encryption_key_is_named(lonely: LazySettings):
    lonely.FIELD_ENCRYPTION_KEYS = ("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",)
    found = examined()
    assert found["keys"][0] == "bad"
    assert found["credentials"][0] == "bad"
    assert "FIELD_ENCRYPTION_KEYS" in found["keys"][1]


def test_the_exit_code_is_for_machines(lonely: LazySettings):
    with pytest.raises(CommandError) as caught:
        run("doctor")
    assert caught.value.returncode == 1
    with pytest.raises(CommandError, match="no tenant nobody"):
        run("doctor", "nobody")
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", stdout=out)
    assert re.search(r"\d+ good, \d+ to look at, \d+ bad", out.getvalue())
