"""The decision who may do what with a device, against a reading of the rules that is as plain as can be."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.http import Http404

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Membership, Role
from devices.grants import EVERYTHING, Capability, NotGranted, holdings_of, may
from devices.models import Device, DeviceGroup, Grant, GroupedDevice
from events.models import Event
from media.models import Clip
from tests.support.cast import NOW, make_camera, make_cast, make_linked_account, make_membership, make_tenant

pytestmark = pytest.mark.django_db

ROLES = [(role, False) for role in Role] + [(Role.OPERATOR, True)]


@dataclass(frozen=True)
class Given:
    """One grant as the strategies draw it: indexes into the world's people, devices and groups."""

    person: int
    device: int | None
    group: int | None
    capabilities: frozenset[Capability]
    until_s: int | None
    is_ended: bool


capabilities = st.sets(st.sampled_from(list(Capability)), min_size=1).map(
    lambda found: frozenset(found | ({Capability.CLIPS} if Capability.EXPORT in found else set()))
)
targets = st.one_of(
    st.tuples(st.integers(0, 3), st.none()),
    st.tuples(st.none(), st.integers(0, 1)),
)
grants = st.builds(
    lambda person, target, held, until_s, is_ended: Given(
        person, target[0], target[1], held, until_s, is_ended
    ),
    st.integers(0, len(ROLES) - 1),
    targets,
    capabilities,
    st.one_of(st.none(), st.integers(-2, 2)),
    st.booleans(),
)


class World:
    """A tenant with somebody of each kind, four cameras in two homes, and a neighbour tenant that must stay out of it."""

    def __init__(self) -> None:
        self.tenant = make_tenant("acme")
        self.people = [
            make_membership(self.tenant, f"{role}{limited}@acme.example", role) for role, limited in ROLES
        ]
        self.people[-1].is_limited = True
        self.people[-1].save()
        customer = next(person for person in self.people if person.role == Role.CUSTOMER)
        stranger = make_membership(self.tenant, "far@acme.example", Role.CUSTOMER)
        homes = [
            make_linked_account(self.tenant, customer.user, ring_id="ring.HOME"),
            make_linked_account(self.tenant, stranger.user, ring_id="ring.FAR0"),
        ]
        self.devices = [make_camera(home, name) for home in homes for name in ("Front", "Back")]
        self.groups = [DeviceGroup.objects.create(tenant=self.tenant, name=name) for name in ("East", "West")]
        neighbour = make_cast("neighbour")
        self.foreign = neighbour.ada_camera
        for number, device in enumerate([*self.devices, self.foreign]):
            Event.objects.create(
                tenant=device.tenant,
                device=device,
                ring_account=device.ring_account,
                request_id=f"r{number}",
                position=number + 1,
                event_type="motion_detected",
                occurred_at=NOW,
                received_at=NOW,
            )
            Clip.objects.create(tenant=device.tenant, device=device, start=NOW, duration_ms=1000)

    def store(self, drawn: list[Given], grouped: set[tuple[int, int]]) -> None:
        GroupedDevice.objects.all().delete()
        Grant.objects.all().delete()
        for group, device in grouped:
            GroupedDevice.objects.create(
                tenant=self.tenant, group=self.groups[group], device=[*self.devices, self.foreign][device]
            )
        for one in drawn:
            Grant.objects.create(
                tenant=self.tenant,
                membership=self.people[one.person],
                device=None if one.device is None else self.devices[one.device],
                group=None if one.group is None else self.groups[one.group],
                until=None if one.until_s is None else NOW + timedelta(seconds=one.until_s),
                ended_at=NOW if one.is_ended else None,
                **{capability.value: True for capability in one.capabilities},
            )

    def oracle(
        self, person: int, device: int, drawn: list[Given], grouped: set[tuple[int, int]]
    ) -> set[Capability]:
        """The rules as one says them."""
        member, camera = self.people[person], self.devices[device]
        if member.role in ("owner", "admin") or (member.role == "operator" and not member.is_limited):
            return set(Capability)
        if camera.ring_account.user_id == member.user_id:
            return set(Capability)
        held: set[Capability] = set()
        for one in drawn:
            is_theirs = one.person == person and not one.is_ended
            is_now = one.until_s is None or one.until_s > 0
            reaches = one.device == device or (one.group, device) in grouped
            if is_theirs and is_now and reaches:
                held |= one.capabilities
        return held


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    drawn=st.lists(grants, max_size=6),
    # Device 4 is another tenant's: in a group of ours by mistake it must still be nobody's here.
    grouped=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 4)), max_size=6),
)
def test_query_and_single_question_and_plain_reading_agree(
    world: World, drawn: list[Given], grouped: set[tuple[int, int]]
):
    with transaction.atomic():
        world.store(drawn, grouped)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("devices.grants.timezone.now", lambda: NOW)
            for person, member in enumerate(world.people):
                holdings = holdings_of(member, now=NOW)
                expected = {
                    index: world.oracle(person, index, drawn, grouped) for index in range(len(world.devices))
                }
                for index, device in enumerate(world.devices):
                    assert holdings.of(device) == expected[index]
                assert not holdings.of(world.foreign)
                for capability in (None, *Capability):
                    wanted = {
                        world.devices[index].pk
                        for index, held in expected.items()
                        if (held if capability is None else capability in held)
                    }
                    found = Device.objects.permitted_to(member, capability)
                    assert {device.pk for device in found} == wanted
                    assert found.count() == len(wanted)
                    assert {e.device_id for e in Event.objects.permitted_to(member, capability)} == wanted
                    assert {c.device_id for c in Clip.objects.permitted_to(member, capability)} == wanted
        transaction.set_rollback(True)


@pytest.fixture
def guest() -> Membership:
    cast = make_cast("acme")
    return make_membership(cast.tenant, "guest@acme.example", Role.GUEST)


def grant(member: Membership, device: Device, *held: Capability, **more: object) -> Grant:
    return Grant.objects.create(
        tenant=member.tenant,
        membership=member,
        device=device,
        **{capability.value: True for capability in held},
        **more,
    )


def test_a_grant_ends_by_itself(guest: Membership):
    camera = Device.objects.get(tenant=guest.tenant, name="Front Door")
    grant(guest, camera, Capability.LIVE, until=NOW + timedelta(hours=2))

    assert may(guest, Capability.LIVE, camera, now=NOW)
    assert may(guest, Capability.LIVE, camera, now=NOW + timedelta(hours=2, microseconds=-1))
    assert not may(guest, Capability.LIVE, camera, now=NOW + timedelta(hours=2))


def test_who_sees_a_device_is_told_what_is_missing_and_who_does_not_is_told_nothing(guest: Membership):
    camera = Device.objects.get(tenant=guest.tenant, name="Front Door")
    with pytest.raises(Http404):
        Device.objects.get_permitted(guest, Capability.LIVE, pk=camera.pk)

    grant(guest, camera, Capability.EVENTS)
    with pytest.raises(NotGranted, match="not watch it live"):
        Device.objects.get_permitted(guest, Capability.LIVE, pk=camera.pk)
    clip = Clip.objects.create(tenant=guest.tenant, device=camera, start=NOW, duration_ms=1000)
    with pytest.raises(NotGranted, match="not its clips"):
        Clip.objects.get_visible(guest, pk=clip.pk)

    grant(guest, camera, Capability.LIVE)
    assert Device.objects.get_permitted(guest, Capability.LIVE, pk=camera.pk) == camera


def test_two_grants_add_up(guest: Membership):
    camera = Device.objects.get(tenant=guest.tenant, name="Front Door")
    grant(guest, camera, Capability.EVENTS)
    grant(guest, camera, Capability.LIVE, until=NOW + timedelta(hours=1))

    assert holdings_of(guest, now=NOW).of(camera) == {Capability.EVENTS, Capability.LIVE}
    assert holdings_of(guest, now=NOW + timedelta(hours=2)).of(camera) == {Capability.EVENTS}


def test_staff_and_programs_hold_everything_without_a_query(guest: Membership, django_assert_num_queries):
    camera = Device.objects.select_related("ring_account").get(tenant=guest.tenant, name="Front Door")
    owner = Membership.objects.get(tenant=guest.tenant, role=Role.OWNER)

    with django_assert_num_queries(0):
        assert holdings_of(owner).of(camera) == EVERYTHING


@pytest.mark.parametrize(
    "wrong",
    [
        {"live": False},
        {"export": True},
        {"device": None},
        {"membership": None},
    ],
    ids=["nothing granted", "export without clips", "no target", "nobody"],
)
def test_the_database_refuses_a_grant_that_says_nothing(guest: Membership, wrong: dict[str, object]):
    camera = Device.objects.get(tenant=guest.tenant, name="Front Door")
    values = {"tenant": guest.tenant, "membership": guest, "device": camera, "live": True} | wrong

    with pytest.raises(IntegrityError), transaction.atomic():
        Grant.objects.create(**values)


def test_only_an_operator_can_be_limited(guest: Membership):
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.filter(pk=guest.pk).update(is_limited=True)
