/* Shows a notice when a push message comes, and opens what it is about. Keeps no page and no picture: they are private. */
const ICON = "{{ icon|escapejs }}";
const BADGE = "{{ badge|escapejs }}";
const SNOOZE_MINUTES = 60;

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("push", (event) => {
  let message = {};
  try {
    message = event.data.json();
  } catch {
    // Browsers demand that something is shown for every message.
  }
  const shown = registration.showNotification(message.title ?? "Something happened", {
    body: message.body ?? "",
    tag: message.tag,
    renotify: Boolean(message.tag),
    icon: ICON,
    badge: BADGE,
    timestamp: Date.now(),
    data: { url: message.url ?? "/", snoozeUrl: message.snooze_url, snooze: message.snooze },
    actions: [
      { action: "view", title: "View" },
      ...(message.snooze ? [{ action: "snooze", title: "Snooze 1 hour" }] : []),
    ],
  });
  event.waitUntil(shown);
});

addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { url, snoozeUrl, snooze } = event.notification.data;
  event.waitUntil(event.action === "snooze" ? sleep(snoozeUrl, snooze) : show(url));
});

async function show(url) {
  const address = new URL(url, location.origin);
  const pages = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const open = pages.find((page) => page.url === address.href) ?? pages.find((page) => page.visibilityState === "hidden");
  if (!open) return clients.openWindow(address.href);
  await open.focus();
  return open.url === address.href ? open : open.navigate(address.href);
}

async function sleep(url, snooze) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    credentials: "omit",
    body: JSON.stringify({ snooze, minutes: SNOOZE_MINUTES }),
  }).catch(() => null);
  if (!answer?.ok) {
    await registration.showNotification("Not snoozed", { body: "Open the portal to snooze notifications.", icon: ICON });
  }
}
