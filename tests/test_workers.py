"""Who runs which tasks where `make run` and the demo start the workers: nothing slow stands before an event's effects."""

from importlib import import_module
from typing import Any

from django.conf import settings
from django.tasks import Task

import pytest

from accounts.tasks import continue_linking, refresh_account, send_lockout_mail
from devices.tasks import sync_account_devices, sync_one_device
from events.history_tasks import read_history
from events.notification_tasks import hand_over
from events.retention_tasks import expire_tenant
from events.tasks import alert, apply_effects, apply_effects_of, sweep_effects
from media.tasks import fetch_clip, fetch_picture


def queues_of(command: list[str]) -> list[str]:
    return command[command.index("--queues") + 1].split(",")


def test_every_queue_has_a_worker_of_its_own_and_one_of_them_enqueues_the_sweeps() -> None:
    processes = import_module("scripts.processes")  # a folder of programs, no package
    commands = list(processes.worker_commands().values())
    assert sorted(queues_of(command) for command in commands) == sorted(
        [queue] for queue in settings.TASKS["default"]["QUEUES"]
    )
    [scheduling] = [command for command in commands if "--no-schedule" not in command]
    assert queues_of(scheduling) == ["default"]


@pytest.mark.parametrize(
    "slow",
    [
        continue_linking,
        refresh_account,
        send_lockout_mail,
        sync_account_devices,
        sync_one_device,
        read_history,
        hand_over,
        expire_tenant,
        alert,
        fetch_clip,
        fetch_picture,
    ],
    ids=lambda task: task.name,
)
def test_what_waits_for_somebody_elses_server_is_in_another_queue_than_effects(slow: Task[..., Any]) -> None:
    effects = {task.queue_name for task in (apply_effects, apply_effects_of, sweep_effects)}
    assert effects == {"events"}
    assert slow.queue_name not in effects
