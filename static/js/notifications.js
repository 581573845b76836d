/*
 * Turning notifications on for this browser (templates/events/notifications.html). Each state in which that cannot be
 * done is said in words, with the way out.
 */
import { csrfToken } from "./csrf.js";

const box = document.querySelector("[data-push]");
const state = box?.querySelector("[data-push-state]");
const button = box?.querySelector("[data-push-on]");

const SYSTEMS = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Mac OS", "Mac"], ["Windows", "Windows"], ["CrOS", "Chromebook"], ["Linux", "Linux"]];
const BROWSERS = [["Edg/", "Edge"], ["OPR/", "Opera"], ["SamsungBrowser", "Samsung Internet"], ["Firefox", "Firefox"], ["Chrome", "Chrome"], ["Safari", "Safari"]];

function named(list, fallback) {
  return list.find(([mark]) => navigator.userAgent.includes(mark))?.[1] ?? fallback;
}

function say(words, { canTurnOn = false } = {}) {
  state.textContent = words;
  button.hidden = !canTurnOn;
}

function keyBytes(text) {
  const padded = text.replace(/-/g, "+").replace(/_/g, "/").padEnd(Math.ceil(text.length / 4) * 4, "=");
  return Uint8Array.from(atob(padded), (letter) => letter.charCodeAt(0));
}

function isSameKey(subscription) {
  const used = subscription.options?.applicationServerKey;
  if (!used) return true;
  const bytes = new Uint8Array(used);
  const ours = keyBytes(box.dataset.pushKey);
  return bytes.length === ours.length && bytes.every((byte, at) => byte === ours[at]);
}

/** Tell the portal of this browser; also on every visit, so that what it once forgot, or another person used, is put right. */
async function register(subscription) {
  const answer = await fetch(box.dataset.pushUrl, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify({ subscription, name: `${named(BROWSERS, "A browser")} on ${named(SYSTEMS, "a computer")}` }),
  });
  if (answer.ok) return true;
  const told = await answer.json().catch(() => ({}));
  say(told.detail ?? "The portal did not take this browser. Try again in a moment.", { canTurnOn: true });
  return false;
}

async function turnOn() {
  button.disabled = true;
  say("One moment…", { canTurnOn: true });
  try {
    if ((await Notification.requestPermission()) !== "granted") return look();
    const worker = await navigator.serviceWorker.ready;
    const kept = await worker.pushManager.getSubscription();
    if (kept && !isSameKey(kept)) await kept.unsubscribe();
    const options = { userVisibleOnly: true, applicationServerKey: keyBytes(box.dataset.pushKey) };
    const subscription = await worker.pushManager.subscribe(options);
    if (await register(subscription)) location.reload();
  } catch {
    say(
      "The browser's own push service could not be reached. Check the network, and try again. Until then you are told while a page of the portal is open.",
      { canTurnOn: true },
    );
  } finally {
    button.disabled = false;
  }
  return undefined;
}

async function look() {
  if (!("serviceWorker" in navigator) || !("Notification" in window) || !("PushManager" in window)) {
    const isApple = /iPhone|iPad/.test(navigator.userAgent);
    say(
      isApple
        ? "On an iPhone or iPad: tap Share, then “Add to Home Screen”, open the portal from there, and come back to this page."
        : "This browser cannot be notified. A current Chrome, Edge, Firefox or Safari can.",
    );
    return;
  }
  if (Notification.permission === "denied") {
    say("This browser blocks notifications from this site. Allow them in the site settings, beside the address, and load this page again.");
    return;
  }
  await navigator.serviceWorker.register("/service-worker.js");
  const worker = await navigator.serviceWorker.ready;
  const subscription = await worker.pushManager.getSubscription();
  if (Notification.permission === "granted" && subscription && isSameKey(subscription)) {
    if (await register(subscription)) say("This browser is told.");
    return;
  }
  say("This browser is not told yet.", { canTurnOn: true });
}

if (box) {
  button.addEventListener("click", turnOn);
  look();
}
