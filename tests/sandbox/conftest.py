"""A sandbox with its partner; cameras, and a moment at noon UTC at which they look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.scene import CameraView
from tests.sandbox.partner import Partner
from tests.support.sandbox_process import SandboxProcess, app_for

NOON_MS = 1_795_348_800_000  # 2026-11-22 12:00 UTC


@pytest.fixture
def camera() -> CameraView:
    return CameraView(
        device_id="ava1.ring.device." + "x" * 100 + "a81f4c2e",
        device_name="Front Door",
        app_name="Acme Monitoring",
        component_id=None,
        kind="doorbell",
        scene_seed=1,
    )


@pytest.fixture
def partner() -> Iterator[Partner]:
    found = Partner()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    nobody = "http://127.0.0.1:9"
    with SandboxProcess(apps=[app_for("acme", nobody)], time_scale=0.02) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess, partner: Partner) -> SandboxProcess:
    """One process for all tests, as new: its app is the partner's, and nobody is linked."""
    sandbox_process.control("POST", "/reset")
    sandbox_process.control("POST", "/apps", app_for("acme", partner.url))
    return sandbox_process
