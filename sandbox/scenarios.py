"""What happens in practice, each set up by one order: what Ring does is done, and the rest is said (contract 17.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.answers import Problem
from sandbox.chaos import Chaos
from sandbox.faults import Fault

if TYPE_CHECKING:
    from sandbox.server import Sandbox
    from sandbox.world import App, Integration

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
FLAPS = 5
STORM_EVENTS = 200

Result = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """For whom a scenario is played: one partner app, one person."""

    sandbox: Sandbox
    app: App
    account: str

    async def install(self, account: str = "") -> Result:
        name = account or self.account
        home = self.sandbox.world.accounts[name].devices
        return await self.sandbox.linking.install(
            self.app, name, [key for key, device in home.items() if not device.removed]
        )

    @property
    def integration(self) -> Integration:
        """The link there is. Raises Problem 404."""
        found = self.sandbox.world.integration(self.app.client_id, self.account)
        if found is None:
            raise Problem(404, "This app is not installed there.")
        return found

    @property
    def link(self) -> Integration:
        """The completed link. Raises Problem 409."""
        found = self.sandbox.world.integration(self.app.client_id, self.account)
        if found is None or found.status != "completed":
            raise Problem(
                409, "This scenario begins with a completed link: play happy-link to its end first."
            )
        return found

    def cameras(self) -> list[str]:
        """The shared devices with video, the doorbell first. Raises Problem 409 when none is shared."""
        home = self.sandbox.world.accounts[self.account].devices
        shared = [home[key] for key in self.link.devices if home[key].has_video and not home[key].removed]
        if not shared:
            raise Problem(409, "This scenario needs a camera that is shared.")
        return [device.key for device in sorted(shared, key=lambda device: device.kind != "doorbell")]

    async def happen(self, device: str, event_type: str, *, ago_s: float = 0, sub_type: str = "") -> int:
        """Let it happen so long ago, tell the app; return how many webhooks that made."""
        sent = await self.sandbox.happenings.at_device(
            self.account,
            device,
            event_type,
            to=[self.link],
            sub_type=sub_type,
            at_ms=self.sandbox.world.now_ms() - round(ago_s * 1000) if ago_s else None,
        )
        return len(sent)

    def fault(self, route: str, kind: str, **rest: Any) -> None:
        self.sandbox.faults.add(Fault(route, kind, **rest))


@dataclass(frozen=True)
class Scenario:
    """`sets_up`: what Ring has done when it returns. `then`: what a person does. `expect`: what a good partner does."""

    name: str
    title: str
    sets_up: str
    then: str
    expect: str
    play: Callable[[Scene], Awaitable[Result]]


async def _happy_link(scene: Scene) -> Result:
    return await scene.install()


async def _slow_sign_up(scene: Scene) -> Result:
    await scene.install()
    integration = scene.integration
    stale = scene.sandbox.linking.sign_in(integration, "stale")
    fresh = scene.sandbox.linking.sign_in(integration)
    return {"stale_redirect_url": stale, "redirect_url": fresh}


async def _five_hours_later(scene: Scene) -> Result:
    result = await scene.install()
    scene.sandbox.world.age(5 * HOUR_S)
    return {**result, "redirect_url": scene.sandbox.linking.sign_in(scene.integration)}


async def _code_sent_again(scene: Scene) -> Result:
    await scene.install()
    return await scene.sandbox.linking.sign_in_with_code(scene.integration)


async def _patch_fails(scene: Scene) -> Result:
    scene.fault("app-integrations.patch", "status", times=3)
    return await scene.install()


async def _answers_lost(scene: Scene) -> Result:
    scene.fault("app-integrations.post", "lost")
    scene.fault("app-integrations.patch", "lost")
    return await scene.install()


async def _webhook_before_claim(scene: Scene) -> Result:
    result = await scene.install()
    home = scene.sandbox.world.accounts[scene.account].devices
    camera = next(key for key in scene.integration.devices if home[key].has_video)
    sent = await scene.sandbox.happenings.at_device(
        scene.account,
        camera,
        "motion_detected",
        to=[scene.integration],
        sub_type="human",
        options={"even_if_pending": True},
    )
    return {**result, "event_id": sent[0].event_id if sent else None}


async def _two_at_once(scene: Scene) -> Result:
    others = [key for key in scene.sandbox.world.accounts if key != scene.account]
    first, second = await scene.install(), await scene.install(others[0])
    return {
        "redirect_url": first["redirect_url"],
        "second_redirect_url": second["redirect_url"],
        "account_ids": [first["account_id"], second["account_id"]],
    }


async def _removed_meanwhile(scene: Scene) -> Result:
    result = await scene.install()
    await scene.sandbox.linking.remove(scene.integration)
    return result


async def _refresh_race(scene: Scene) -> Result:
    scene.sandbox.world.expire(scene.link, "access")
    scene.fault("token", "slow", delay_s=1.0)
    return {}


async def _refresh_answer_lost(scene: Scene) -> Result:
    scene.sandbox.world.expire(scene.link, "access")
    scene.fault("token", "lost")
    return {}


async def _thirty_days(scene: Scene) -> Result:
    _ = scene.link
    scene.sandbox.world.age(31 * DAY_S)
    return {}


async def _late_removal(scene: Scene) -> Result:
    sent = await scene.sandbox.linking.remove(scene.link)
    result = await scene.install()
    for delivery in sent:
        scene.sandbox.webhooks.replay(delivery)
    await scene.sandbox.webhooks.tried(sent, 5.0)
    return result


async def _delivery_visit(scene: Scene) -> Result:
    door, drive = scene.cameras()[0], scene.cameras()[-1]
    steps = (
        (drive, "motion_detected", 40, "vehicle"),
        (door, "motion_detected", 25, "human"),
        (door, "button_press", 20, ""),
        (door, "motion_detected", 12, "package_delivery"),
        (drive, "motion_detected", 5, "vehicle"),
    )
    told = [await scene.happen(device, kind, ago_s=ago, sub_type=sub) for device, kind, ago, sub in steps]
    return {"webhooks": sum(told)}


async def _device_flap(scene: Scene) -> Result:
    door = scene.cameras()[0]
    # Told newest first: what came last is not what is true.
    told = 0
    for step in range(FLAPS * 2):
        told += await scene.happen(
            door, "device_offline" if step % 2 else "device_online", ago_s=1 + step * 4
        )
    scene.sandbox.world.accounts[scene.account].devices[door].online = True
    return {"webhooks": told}


async def _subscription_lapse(scene: Scene) -> Result:
    happenings, link = scene.sandbox.happenings, scene.link
    subscription = happenings.begin_subscription(link, trial=False, devices=list(link.devices), days=30)
    begun = scene.sandbox.webhooks.newest(scene.app.client_id)
    await scene.sandbox.webhooks.tried(begun, 5.0)
    await happenings.change_plan(scene.sandbox.world.accounts[scene.account], False)
    return {"subscription": subscription.id}


async def _storm(scene: Scene) -> Result:
    webhooks, cameras = scene.sandbox.webhooks, scene.cameras()
    before = webhooks.chaos
    webhooks.bring(Chaos(seed=1, duplicate=0.3, delay=0.2, reorder=0.3, storm=0.5, burst=50))
    told = 0
    for number in range(STORM_EVENTS):
        told += await scene.happen(cameras[number % len(cameras)], "motion_detected", sub_type="human")
    webhooks.bring(before)
    return {"webhooks": told}


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "happy-link",
            "A link as it should be",
            "The app is installed, the code and device_added were sent.",
            "Open redirect_url, sign up, confirm.",
            "POST, PATCH; status completed; then app_integration_added arrives.",
            _happy_link,
        ),
        Scenario(
            "slow-sign-up",
            "Signing up takes longer than ten minutes",
            "The app is installed; the first link is eleven minutes old, a second is fresh.",
            "Open stale_redirect_url, read the page, then open redirect_url: Sign In was tapped again.",
            "The first is refused with a page that says to tap Sign In again; the second links, without a new code.",
            _slow_sign_up,
        ),
        Scenario(
            "five-hours-later",
            "The person comes back after five hours",
            "The app was installed five hours ago, so the access token is dead; Sign In is tapped now.",
            "Open redirect_url, sign in, confirm.",
            "The tokens that wait are found, refreshed once, and the link is completed.",
            _five_hours_later,
        ),
        Scenario(
            "code-sent-again",
            "Sign In sends a second code",
            "The app is installed; Sign In is tapped again and Ring sends a new code for the same account.",
            "Open redirect_url and confirm.",
            "One account, with the newer tokens.",
            _code_sent_again,
        ),
        Scenario(
            "patch-fails",
            "Ring fails at the last step, then recovers",
            "The next three PATCHes answer 500; the app is installed.",
            "Open redirect_url and confirm.",
            "The page says that it is being finished; some retries later the status is completed.",
            _patch_fails,
        ),
        Scenario(
            "answers-lost",
            "Ring does what it is asked, and its answers are lost",
            "The answers to the next POST and the next PATCH never arrive; the app is installed.",
            "Open redirect_url and confirm.",
            "Both are repeated, and the link is completed once.",
            _answers_lost,
        ),
        Scenario(
            "webhook-before-claim",
            "Events arrive before anybody claimed the account",
            "The app is installed and a camera notices a person.",
            "Open redirect_url, confirm, and look at the events.",
            "The webhook is answered with 200 and shown once the account is claimed.",
            _webhook_before_claim,
        ),
        Scenario(
            "two-at-once",
            "Two people link at the same time",
            "Two people have installed the app; both tokens wait.",
            "Open redirect_url and second_redirect_url in two browsers, confirm in any order.",
            "Each gets their own Ring account.",
            _two_at_once,
        ),
        Scenario(
            "removed-meanwhile",
            "The app is removed while the person signs up",
            "The app was installed and removed again: the tokens are revoked.",
            "Open redirect_url and confirm.",
            "A page that says so; nothing is linked.",
            _removed_meanwhile,
        ),
        Scenario(
            "refresh-race",
            "Everybody needs the next token at once",
            "The access token has ended, and the token endpoint takes a second.",
            "Ask for many things at the same moment.",
            "One request to the token endpoint: GET /control/requests.",
            _refresh_race,
        ),
        Scenario(
            "refresh-answer-lost",
            "A refresh succeeds, and its answer is lost",
            "The access token has ended; the answer to the next refresh never arrives, though the token was rotated.",
            "Ask for anything.",
            "The same token is tried once more and refused; then, and only then, the person is asked to link again. "
            "With the knob refresh_grace nobody is asked.",
            _refresh_answer_lost,
        ),
        Scenario(
            "thirty-days",
            "A refresh token dies of age",
            "The link is 31 days older than it was.",
            "Ask for anything.",
            "One refused refresh, no further calls, the person is asked to link again.",
            _thirty_days,
        ),
        Scenario(
            "late-removal",
            "Removed, added again, and the removal is told twice",
            "The app was removed and installed again; then the webhooks of the removal came a second time.",
            "Open redirect_url and confirm.",
            "The late webhooks are answered with 200 and end nothing: the new link is completed.",
            _late_removal,
        ),
        Scenario(
            "delivery-visit",
            "A delivery",
            "A van comes, a person walks to the door, rings, leaves a parcel, and the van drives off: 40 seconds, five webhooks.",
            "Look at the events.",
            "Five events, in the order in which they happened, with the words for vehicle, person and package.",
            _delivery_visit,
        ),
        Scenario(
            "device-flap",
            "A device that loses its network again and again",
            "Five times gone and back, told in the wrong order: the newest, online, came first.",
            "Look at the device.",
            "It is online: what happened last counts, not what was told last.",
            _device_flap,
        ),
        Scenario(
            "subscription-lapse",
            "The plan ends",
            "A subscription of your app began; then the home's Ring plan lapsed, which ended it.",
            "Ask for the devices, then let the plan resume under Home.",
            "No retries against the 403; what needs a plan says so until it is back.",
            _subscription_lapse,
        ),
        Scenario(
            "storm",
            "A storm of webhooks",
            "Two hundred motions at once, in bursts: many twice, many late, many out of order, and half of your answers are lost.",
            "Watch the events and GET /control/deliveries.",
            "Two hundred events, each once, though some four hundred webhooks came.",
            _storm,
        ),
    )
}
