/*
 * Home, and other pages of devices: draws `data-glance` again after an event, the tiles and today's hours. Not while
 * somebody points at them, works in them or looks elsewhere, but as soon as they have gone, or are back; and only once
 * things are quiet, so that a flood of events asks for nothing.
 */
const PICTURE_TAKES_MS = 4_000;
const STATE_TAKES_MS = 700;
const CHANGE_SPREAD_MS = 1_000;
// A finger leaves its hover behind on what it last touched.
const hasPointer = matchMedia("(hover: hover)");
let timer;
let isOwed = false;

function isInUse(glance) {
  // Where there is nothing yet, nothing moves under the pointer but a button: whoever waits is not kept waiting for it.
  if (glance?.querySelector(".empty")) return glance.querySelector(":is(a, button):is(:hover, :focus)") !== null;
  return glance?.matches(hasPointer.matches ? ":hover, :focus-within" : ":focus-within");
}

async function drawAgain() {
  isOwed = document.hidden || isInUse(document.querySelector("[data-glance]"));
  if (isOwed) return;
  const answer = await fetch(location.href, { redirect: "error" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-glance]");
  const glance = document.querySelector("[data-glance]");
  // Somebody came while the answer was on its way.
  isOwed = isInUse(glance);
  if (isOwed) return;
  if (glance && fresh) glance.replaceWith(document.adoptNode(fresh));
  // The first device has arrived, or the last one gone: the page is another one now.
  else if (glance || fresh) location.reload();
}

function drawAgainIn(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => drawAgain().catch(() => {}), pause);
}

document.addEventListener("portal:event", (event) => {
  drawAgainIn(event.detail.kind === "device" ? STATE_TAKES_MS : PICTURE_TAKES_MS);
});
// Whatever changed, everybody of the company hears of it at one moment.
document.addEventListener("portal:changed", () => drawAgainIn(STATE_TAKES_MS + Math.random() * CHANGE_SPREAD_MS));
if (!document.querySelector("[data-feed-revision]")) {
  // The page cannot say what it was made from: what came before it listened is seen by looking.
  document.addEventListener("portal:open", () => drawAgainIn(0));
}
document.addEventListener("portal:picture", () => drawAgainIn(STATE_TAKES_MS));
for (const name of ["pointerout", "focusout", "visibilitychange"]) {
  document.addEventListener(name, () => isOwed && drawAgainIn(STATE_TAKES_MS));
}
