/*
 * A notice from an open page that nobody looks at, for browsers whose push service cannot be reached: with web push turned
 * on (static/js/notifications.js) the service worker tells, and this keeps silent.
 */
const FRESH_MS = 5 * 60_000;
const place = document.querySelector("[data-notices]");
const noticed = new Map();

async function worker() {
  if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return null;
  const registration = await navigator.serviceWorker?.getRegistration();
  return registration && !(await registration.pushManager?.getSubscription()) ? registration : null;
}

async function tell(event) {
  const device = event.device?.id;
  if (!device || event.is_test || Date.now() - Date.parse(event.occurred_at) > FRESH_MS) return;
  const registration = await worker();
  if (!registration) return;
  const answer = await fetch(place.dataset.notices, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const chosen = await answer.json();
  const isMuted = chosen.muted_kinds.includes(event.kind) || chosen.muted_devices.includes(device);
  const isSnoozed = chosen.snoozed_until && Date.parse(chosen.snoozed_until) > Date.now();
  // A press waits for no pause, as with push (events/notifications.py): somebody stands at the door.
  const isTooSoon = event.kind !== "doorbell" && Date.now() - (noticed.get(device) ?? 0) < chosen.cooldown_minutes * 60_000;
  if (isMuted || isSnoozed || isTooSoon) return;
  noticed.set(device, Date.now());
  await registration.showNotification(event.title, { body: event.device.name, tag: device, data: { url: event.url } });
}

if (place) document.addEventListener("portal:event", ({ detail }) => tell(detail));
