"""Which relay nodes are alive, and which of them has a camera. The whole with real processes: tests/test_relay_nodes.py."""

from datetime import timedelta

from django.core.management import CommandError, call_command
from django.utils import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import nodes
from media.models import RelayNode

names = st.lists(st.text("abcdefgh0123456789-", min_size=1, max_size=20), min_size=2, max_size=8, unique=True)


@given(names=names, cameras=st.lists(st.text(max_size=30), min_size=1, max_size=30))
def test_a_node_that_goes_moves_no_cameras_but_its_own(names: list[str], cameras: list[str]) -> None:
    all_nodes = [RelayNode(name=name) for name in names]
    gone, *left = all_nodes
    for camera in cameras:
        before = nodes.choose(camera, all_nodes)
        assert nodes.choose(camera, reversed(all_nodes)) == before
        after = nodes.choose(camera, left)
        assert after.name == before.name or before is gone


def test_cameras_are_spread_over_the_nodes() -> None:
    three = [RelayNode(name=name) for name in ("one", "two", "three")]
    chosen = [nodes.choose(f"1:{number}:", three).name for number in range(300)]
    assert all(60 < chosen.count(node.name) < 140 for node in three)


@pytest.mark.django_db
def test_a_node_is_alive_while_it_stamps_its_row_and_is_forgotten_long_after() -> None:
    now = timezone.now()
    nodes.beat("one", "channel-1", viewers=0, sessions=0, now=now - timedelta(hours=2))
    nodes.beat("two", "channel-2", viewers=0, sessions=0, now=now - nodes.SILENT_AFTER)
    nodes.beat("one", "channel-1", viewers=3, sessions=1, now=now)
    nodes.beat("three", "channel-3", viewers=0, sessions=0, now=now - timedelta(hours=2))

    alive = {node.name: (node.channel, node.viewers, node.sessions) for node in nodes.living(now=now)}
    assert alive == {"one": ("channel-1", 3, 1), "two": ("channel-2", 0, 0)}
    assert RelayNode.objects.get(name="one").started_at == now - timedelta(hours=2)

    assert [node.name for node in nodes.living(now=now + timedelta(seconds=1))] == ["one"]
    nodes.forget_dead(now=now)
    assert set(RelayNode.objects.values_list("name", flat=True)) == {"one", "two"}
    nodes.sign_off("one")
    assert [node.name for node in nodes.living(now=now)] == ["two"]


def test_a_node_that_nobody_would_ask_says_what_to_set() -> None:
    with pytest.raises(CommandError, match="LIVE_RELAY=nodes"):
        call_command("relay")
