/*
 * Home: draws the tiles and today's hours again after an event, `data-glance`. Not while somebody is at work in them,
 * and only once things are quiet, so that a flood of events asks for nothing.
 */
const PICTURE_TAKES_MS = 4_000;
const STATE_TAKES_MS = 700;
let timer;

async function drawAgain() {
  const glance = document.querySelector("[data-glance]");
  if (document.hidden || glance?.matches(":focus-within")) return;
  const answer = await fetch(location.href, { redirect: "error" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-glance]");
  if (glance && fresh) glance.replaceWith(document.adoptNode(fresh));
  // The first device has arrived: the page is another one now.
  else if (fresh) location.reload();
}

function drawAgainIn(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => drawAgain().catch(() => {}), pause);
}

document.addEventListener("portal:event", (event) => {
  drawAgainIn(event.detail.kind === "device" ? STATE_TAKES_MS : PICTURE_TAKES_MS);
});
document.addEventListener("portal:changed", () => drawAgainIn(STATE_TAKES_MS));
