/*
 * Who is watching, now: keeps each `[data-watching]` (templates/media/_watching.html) fresh while the page is seen.
 *
 * It asks every five seconds, and at once when a player on the page begins or ends.
 */
const EVERY_MS = 5000;
// The server writes a viewing down before its first picture; by then it is told.
const SOON_MS = 500;

const elements = [...document.querySelectorAll("[data-watching]")];
let timer = 0;

function show(watching) {
  for (const element of elements) {
    const words = watching[element.dataset.watching] ?? "";
    const said = element.querySelector("[data-watching-words]");
    // Only what is new is announced.
    if (said.textContent !== words) said.textContent = words;
    element.querySelector(".watching-said").hidden = !words;
  }
}

async function ask() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch(elements[0].dataset.watchingUrl, { redirect: "error" });
    if (answer.ok) show((await answer.json()).watching);
  } catch {
    // Without a network nothing is known; the next answer tells.
  }
  soon(EVERY_MS);
}

function soon(pause_ms) {
  clearTimeout(timer);
  timer = setTimeout(ask, pause_ms);
}

if (elements.length) {
  document.addEventListener("visibilitychange", ask);
  document.addEventListener("player:state", ({ detail }) => {
    if (detail.state === "live" || detail.state === "ended") soon(SOON_MS);
  });
  soon(EVERY_MS);
}
